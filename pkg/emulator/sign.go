package emulator

import (
	"bytes"
	"crypto/md5" //nolint:gosec // what the service signs with
	"fmt"
	"slices"
	"strconv"
	"time"
)

// signLife is how far ahead T is (documentation of SignKey).
const signLife = 10 * time.Minute

// sign adds Sign and T to the content of an event.
func (v *Variants) sign(content []byte, key string, expires time.Time) []byte {
	name, t, format, quoted := "Sign", "T", `"%s":"%x","%s":%s`, strconv.FormatInt(expires.Unix(), 10)
	sum := md5.Sum([]byte(key + quoted)) //nolint:gosec // what the service signs with
	if v.SignNamesLower {
		name, t = "sign", "t"
	}
	if v.SignUpper {
		format = `"%s":"%X","%s":%s`
	}
	if v.SignTString {
		quoted = `"` + quoted + `"`
	}
	fields := fmt.Appendf(nil, format, name, sum, t, quoted)
	if v.SignPlace == SignLast {
		end := bytes.LastIndexByte(content, '}')
		if len(members(content)) > 0 {
			fields = slices.Concat([]byte(","), fields)
		}
		return slices.Concat(content[:end], fields, content[end:])
	}
	at := 0
	if v.SignPlace == SignInPayload {
		for _, m := range members(content) {
			colon := skipSpace(content, skipString(content, m.start))
			if value := skipSpace(content, colon+1); content[value] == '{' {
				at = value
				break
			}
		}
	}
	if content[skipSpace(content, at+1)] != '}' {
		fields = append(fields, ',')
	}
	return slices.Concat(content[:at+1], fields, content[at+1:])
}

// signed is what follows the handle of an event that is delivered now, with Sign and T where events that are
// pulled have them.
func (q *queues) signed(m *message, now time.Time) []byte {
	key := m.app.config.signKey
	if !q.opts.Variants.SignPulled || key == "" {
		return m.tail
	}
	return q.opts.Variants.sign(slices.Concat([]byte("{"), m.tail), key, now.Add(signLife))[1:]
}
