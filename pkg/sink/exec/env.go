package exec

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/vodrelay/vodrelay/pkg/event"
)

// inherited are the variables of vodrelay that every command gets. No other is passed on by itself, above
// all no credential (TENCENTCLOUD_*, VODRELAY_*).
var inherited = []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"}

// maxValue is the most bytes of one variable's value. Linux refuses to start a command with a string over
// 128 KiB (MAX_ARG_STRLEN in execve(2)); the whole value is on standard input in any case.
const maxValue = 32 << 10

// baseEnv is what is the same for all events. Configured names win.
func baseEnv(configured []string, lookup func(string) (string, bool)) []string {
	var env []string
	inherit := func(name string) {
		if value, ok := lookup(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range inherited {
		inherit(name)
	}
	for _, setting := range configured {
		if strings.Contains(setting, "=") {
			env = append(env, setting)
		} else {
			inherit(setting)
		}
	}
	return env
}

// eventEnv is the fields of e that a short script needs. The first five are always set, if only to "", and
// the others for every NewFileUpload.
func eventEnv(e event.Event) []string {
	var payload struct {
		TaskId, ProcedureTaskId text //nolint:revive // the API's own names
		MediaBasicInfo          struct {
			Name, Type, MediaUrl, CoverUrl text //nolint:revive // the API's own names
			ClassId, CreateTime            text //nolint:revive // the API's own names
			StorageRegion                  text
			SourceInfo                     struct{ SourceType, SourceContext text }
		}
	}
	_ = json.Unmarshal(e.Payload(), &payload) // a field of another type than documented is left empty
	subApp := ""
	if e.SubAppID != 0 {
		subApp = strconv.FormatUint(e.SubAppID, 10)
	}
	env := []string{
		variable("VOD_EVENT_ID", e.DedupID()),
		variable("VOD_EVENT_TYPE", e.Type),
		variable("VOD_SUB_APP_ID", subApp),
		variable("VOD_FILE_ID", e.FileID()),
		variable("VOD_TASK_ID", string(payload.TaskId)),
	}
	if e.Type != event.NewFileUpload {
		return env
	}
	media := payload.MediaBasicInfo
	return append(env,
		variable("VOD_FILE_NAME", string(media.Name)),
		variable("VOD_FILE_TYPE", string(media.Type)),
		variable("VOD_MEDIA_URL", string(media.MediaUrl)),
		variable("VOD_COVER_URL", string(media.CoverUrl)),
		variable("VOD_CLASS_ID", string(media.ClassId)),
		variable("VOD_CREATE_TIME", string(media.CreateTime)),
		variable("VOD_STORAGE_REGION", string(media.StorageRegion)),
		variable("VOD_SOURCE_TYPE", string(media.SourceInfo.SourceType)),
		variable("VOD_SOURCE_CONTEXT", string(media.SourceInfo.SourceContext)),
		variable("VOD_PROCEDURE_TASK_ID", string(payload.ProcedureTaskId)),
	)
}

// variable makes a value fit into an environment: no NUL, which would end it, and no more than maxValue.
func variable(name, value string) string {
	value = strings.ReplaceAll(value, "\x00", "")
	if len(value) > maxValue {
		end := maxValue
		for end > maxValue-utf8.UTFMax && !utf8.RuneStart(value[end]) {
			end--
		}
		value = value[:end]
	}
	return name + "=" + value
}

// text is a string, or the digits of a number, as VOD might one day send an ID. Everything else is "".
type text string

// UnmarshalJSON never fails, so that one odd field does not hide the others.
func (t *text) UnmarshalJSON(value []byte) error {
	switch c := value[0]; {
	case c == '"':
		var s string
		if json.Unmarshal(value, &s) == nil {
			*t = text(s)
		}
	case c == '-' || '0' <= c && c <= '9':
		*t = text(value)
	}
	return nil
}
