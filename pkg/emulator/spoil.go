package emulator

import "bytes"

// Defaults of Fault.Count: more items than any client should take, deeper than JSON libraries read (10,000 in Go
// and in .NET's largest setting), larger than documented events get.
const (
	defExtraItems = 1 << 20
	defDepth      = 20_000
	defSize       = 8 << 20

	// maxSpoilt bounds what a fault adds to an answer, in bytes.
	maxSpoilt = 128 << 20
)

// oddItems are not what belongs into an EventSet.
const oddItems = `null,7,"text",["list"],{},{"EventType":"NoHandle"},{"EventHandle":"no-type"},{"EventHandle":"no-json","EventType":"Broken","Value":tru}`

// spoil adds to an answer what f says. What is deep or big is put into the first event, where there is one.
func (f *Fault) spoil(out []byte) []byte {
	switch f.Kind {
	case FaultExtraItems:
		return addItems(out, bytes.Repeat([]byte(",1"), or(f.Count, defExtraItems)))
	case FaultOddItems:
		return addItems(out, []byte(","+oddItems))
	case FaultDeep:
		n := or(f.Count, defDepth)
		return addField(out, []byte(`"Deep":`), bytes.Repeat([]byte("["), n), bytes.Repeat([]byte("]"), n))
	case FaultBig:
		return addField(out, []byte(`"Big":"`), bytes.Repeat([]byte("x"), or(f.Count, defSize)), []byte(`"`))
	default:
		return out
	}
}

func or(n, fallback int) int {
	setDefault(&n, fallback)
	return n
}

var (
	answerStart = []byte(`{"Response":{`)
	eventsStart = []byte(`{"Response":{"EventSet":[{`)
	eventsEnd   = []byte(`],"RequestId":`)
)

// addItems adds items behind the events; without events it adds nothing.
func addItems(out, items []byte) []byte {
	at := bytes.LastIndex(out, eventsEnd)
	if at < 0 || !bytes.HasPrefix(out, eventsStart) {
		return out
	}
	return bytes.Join([][]byte{out[:at], items, out[at:]}, nil)
}

// addField puts a field first into the first event, or else into the answer itself.
func addField(out []byte, field ...[]byte) []byte {
	at := len(answerStart)
	if bytes.HasPrefix(out, eventsStart) {
		at = len(eventsStart)
	}
	if len(out) < at {
		return out
	}
	return bytes.Join([][]byte{out[:at], bytes.Join(field, nil), []byte(","), out[at:]}, nil)
}
