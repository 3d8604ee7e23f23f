package callback

import (
	"crypto/md5" //nolint:gosec // what VOD signs with
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// SignLife is how long a signature is valid as VOD makes them: T is then that far ahead.
// Source: SignKey of ModifyEventConfig in tencentcloud-sdk-go vod/v20180717 since v1.3.89.
const SignLife = 10 * time.Minute

// maxSkew is how far the clocks of VOD and of this machine may be apart. It is what VOD's API allows, above which
// this machine could not pull either. Source: https://cloud.tencent.com/document/product/266/31774.
const maxSkew = 5 * time.Minute

// signature is a pair of Sign and T as it stood in a message.
type signature struct {
	sign string // 32 hexadecimal digits of either case
	t    string // UNIX seconds in decimal: when it expires
}

var (
	errUnsigned = errors.New("the notification carries no signature: Sign and T are missing")
	errForged   = errors.New("the signature was not made with this receiver's key: compare sign_key with the SignKey of the application")
)

// verify checks that one of the signatures was made with one of the keys, has not expired, and does not last for
// longer than VOD makes them. It takes the same time whichever key fits.
//
// The signature covers T and not the content: who sees one notification can post others until T. TLS is
// what keeps it from being seen.
func verify(keys []string, signatures []signature, now time.Time) error {
	err := errUnsigned
	for _, s := range signatures {
		if err = s.verify(keys, now); err == nil {
			return nil
		}
	}
	return err
}

func (s signature) verify(keys []string, now time.Time) error {
	got, err := hex.DecodeString(s.sign)
	if err != nil {
		return errForged
	}
	fits := 0
	for _, key := range keys {
		fits |= subtle.ConstantTimeCompare(got, sum(key, s.t))
	}
	if fits == 0 {
		return errForged
	}
	expires, err := strconv.ParseInt(s.t, 10, 64)
	if err != nil {
		return errForged
	}
	if now.Unix() > expires {
		return fmt.Errorf("the signature expired %ds ago: check this machine's clock", now.Unix()-expires)
	}
	if expires-now.Unix() > int64((SignLife+maxSkew)/time.Second) {
		return fmt.Errorf("the signature is valid for longer than %s, and VOD makes them for %s: check this machine's clock", SignLife+maxSkew, SignLife)
	}
	return nil
}

// sum is Sign before it is written in hexadecimal digits.
func sum(key, t string) []byte {
	digest := md5.Sum([]byte(key + t)) //nolint:gosec // what VOD signs with
	return digest[:]
}

// Sign adds the signature to a notification as VOD would: Sign, the MD5 of the key and T, and T, when it
// expires. They stand beside EventType; where VOD puts them is not documented, so a receiver should look
// for them elsewhere too. The error is that of a notification that is not a JSON object.
func Sign(notification []byte, key string, expires time.Time) ([]byte, error) {
	members, err := fields(notification)
	if err != nil {
		return nil, err
	}
	t := strconv.FormatInt(expires.Unix(), 10)
	end := len(notification)
	for notification[end-1] != '}' {
		end--
	}
	signed := append(make([]byte, 0, end+64), notification[:end-1]...)
	if len(members) > 0 {
		signed = append(signed, ',')
	}
	return fmt.Appendf(signed, `"Sign":"%x","T":%s}`, sum(key, t), t), nil
}

// readSignature takes the signature out of an object's fields: the last of each name counts, as in most
// JSON readers. ok is false for fields that do not look like one. rest are the other fields.
func readSignature(members []field) (s signature, rest []field, ok bool) {
	for _, m := range members {
		switch {
		case m.isSign() && isHex(m.text()):
			s.sign = m.text()
		case m.isT() && isDecimal(m.text()):
			s.t = m.text()
		default:
			rest = append(rest, m)
		}
	}
	if s.sign == "" || s.t == "" {
		return signature{}, members, false
	}
	return s, rest, true
}

// The letter case of the names is not documented either.
func (f field) isSign() bool { return f.name == "Sign" || f.name == "sign" || f.name == "SIGN" }
func (f field) isT() bool    { return f.name == "T" || f.name == "t" }

func isHex(s string) bool {
	if len(s) != 2*md5.Size {
		return false
	}
	_, err := hex.DecodeString(s)
	return err == nil
}

func isDecimal(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 19
}

// text is the content of a string, the digits of a number, and "" for anything else.
func (f field) text() string {
	switch f.value.Kind() {
	case '0':
		return string(f.value)
	case '"':
		s, err := jsontext.AppendUnquote(nil, f.value)
		if err != nil {
			return ""
		}
		return string(s)
	default:
		return ""
	}
}
