package emulator

import (
	"encoding/json"
	"slices"
)

// params are the parameters of a request, each as the JSON that was sent.
type params map[string]json.RawMessage

// parameters are the documented ones of each action.
var parameters = map[string][]string{
	ActionPullEvents:          {"ExtInfo", "SubAppId"},
	ActionConfirmEvents:       {"EventHandles", "ExtInfo", "SubAppId"},
	ActionDescribeEventsState: {"SubAppId"},
	ActionDescribeEventConfig: {"SubAppId"},
	ActionModifyEventConfig: {"Mode", "NotificationUrl", "UploadMediaCompleteEventSwitch",
		"DeleteMediaCompleteEventSwitch", "PersistenceCompleteEventSwitch", "SignKey", "SubAppId"},
}

func parseParams(body []byte) (params, *apiError) {
	var p params
	if err := json.Unmarshal(body, &p); err != nil || p == nil {
		return nil, refuse(codeInvalidParameter, "The request body is not a JSON object.")
	}
	return p, nil
}

// check refuses what the action does not know, and a reserved parameter of the
// wrong type.
func (p params) check(action string) *apiError {
	for name := range p {
		if !slices.Contains(parameters[action], name) {
			return refuse(codeUnknownParameter, "The parameter %q is not recognized.", clip(name))
		}
	}
	_, err := p.text("ExtInfo")
	return err
}

// get decodes one parameter; absent and null leave v and report false.
func (p params) get(name string, v any) (bool, *apiError) {
	raw, ok := p[name]
	if !ok || string(raw) == "null" {
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, refuse(codeInvalidParameter, "The value type of parameter %q is not valid.", name)
	}
	return true, nil
}

// subAppID returns 0 when it was not sent.
func (p params) subAppID() (id uint64, err *apiError) {
	_, err = p.get("SubAppId", &id)
	return id, err
}

// text returns nil when the parameter was not sent.
func (p params) text(name string) (*string, *apiError) {
	var s string
	if ok, err := p.get(name, &s); !ok {
		return nil, err
	}
	return &s, nil
}

// handles returns the handles of a ConfirmEvents.
func (p params) handles(limit int) ([]string, *apiError) {
	var handles []string
	ok, err := p.get("EventHandles", &handles)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, refuse(codeMissingParameter, "The request is missing the parameter EventHandles.")
	}
	if len(handles) == 0 || len(handles) > limit {
		return nil, refuse(codeInvalidParameterValue, "EventHandles has %d elements, not 1 to %d.", len(handles), limit)
	}
	return handles, nil
}

func (p params) eventConfigChange() (c eventConfigChange, err *apiError) {
	for _, f := range []struct {
		name string
		to   **string
	}{
		{"Mode", &c.mode},
		{"NotificationUrl", &c.notificationURL},
		{"UploadMediaCompleteEventSwitch", &c.uploadSwitch},
		{"DeleteMediaCompleteEventSwitch", &c.deleteSwitch},
		{"PersistenceCompleteEventSwitch", &c.persistenceSwitch},
		{"SignKey", &c.signKey},
	} {
		if *f.to, err = p.text(f.name); err != nil {
			return c, err
		}
	}
	return c, c.validate()
}
