package event

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/pkg/emulator"
)

// slowly is what a walk does, by a parser and by strings. text is how a string is written, given its characters.
func slowly(t testing.TB, dec *jsontext.Decoder, text func([]rune) string, leaveOut func(jsontext.Value) bool, depth int) string {
	scalar := func(v jsontext.Value) string {
		if text != nil && v.Kind() == '"' {
			return text(characters(t, v))
		}
		return string(v)
	}
	kind := dec.PeekKind()
	if kind != '{' && kind != '[' {
		v, err := dec.ReadValue()
		require.NoError(t, err)
		return scalar(v)
	}
	_, err := dec.ReadToken()
	require.NoError(t, err)
	type field struct {
		name, key, value string
		null             bool
	}
	var fields []field
	for next := dec.PeekKind(); next != '}' && next != ']'; next = dec.PeekKind() {
		var f field
		left := false
		if kind == '{' {
			name, err := dec.ReadValue()
			require.NoError(t, err)
			left = depth == 0 && leaveOut != nil && leaveOut(name)
			f.name, f.key, f.null = scalar(name), canonicalText(characters(t, name)), dec.PeekKind() == 'n'
		}
		f.value = slowly(t, dec, text, leaveOut, depth+1)
		if !left {
			fields = append(fields, f)
		}
	}
	_, err = dec.ReadToken()
	require.NoError(t, err)
	if text != nil && kind == '{' {
		slices.SortStableFunc(fields, func(a, b field) int { return strings.Compare(a.key, b.key) })
	}
	seen := make(map[string]bool) // names of values
	fields = slices.DeleteFunc(fields, func(f field) bool {
		seen[f.key] = seen[f.key] || !f.null
		return !seen[f.key]
	})
	var texts []string
	for _, f := range fields {
		if kind == '{' {
			f.value = f.name + ":" + f.value
		}
		texts = append(texts, f.value)
	}
	if kind == '{' {
		return "{" + strings.Join(texts, ",") + "}"
	}
	return "[" + strings.Join(texts, ",") + "]"
}

// brokenByte is added to a byte that is no UTF-8 to make it a character that nothing else is.
const brokenByte = utf8.MaxRune + 1

// characters are those of a JSON string. Half of a surrogate pair is one.
func characters(t testing.TB, quoted []byte) (all []rune) {
	unit := func(text string) rune {
		n, err := strconv.ParseUint(text, 16, 16)
		require.NoError(t, err)
		return rune(n)
	}
	short := map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': 8, 'f': 12, 'n': 10, 'r': 13, 't': 9}
	for text := string(quoted[1 : len(quoted)-1]); text != ""; {
		var r rune
		size := 2
		switch {
		case text[0] != '\\':
			if r, size = utf8.DecodeRuneInString(text); r == utf8.RuneError && size == 1 {
				r = brokenByte + rune(text[0])
			}
		case text[1] != 'u':
			r = short[text[1]]
		default:
			r, size = unit(text[2:6]), 6
			if r >= 0xd800 && r < 0xdc00 && strings.HasPrefix(text[6:], `\u`) {
				if low := unit(text[8:12]); low >= 0xdc00 && low < 0xe000 {
					r, size = 0x10000+(r-0xd800)<<10+low-0xdc00, 12
				}
			}
		}
		all, text = append(all, r), text[size:]
	}
	return all
}

// canonicalText is what appendCanonical makes of a string of these characters.
func canonicalText(text []rune) string {
	short := map[rune]string{'"': `\"`, '\\': `\\`, 8: `\b`, 12: `\f`, 10: `\n`, 13: `\r`, 9: `\t`}
	var out strings.Builder
	for _, r := range text {
		switch {
		case short[r] != "":
			out.WriteString(short[r])
		case r < ' ', r >= 0xd800 && r < 0xe000:
			fmt.Fprintf(&out, `\u%04x`, r)
		case r >= brokenByte:
			out.WriteByte(byte(r - brokenByte))
		default:
			out.WriteRune(r)
		}
	}
	return `"` + out.String() + `"`
}

func parser(raw []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(slices.Clone(raw)), lenient...)
}

func canonical(raw []byte) string {
	w := walk(raw, true)
	defer w.release()
	return string(w.value(nil, 0))
}

// FuzzWalk compares the walker, which takes on trust that it is given JSON, with a parser.
func FuzzWalk(f *testing.F) {
	for _, content := range emulator.GenerateUploads(2, 1) {
		f.Add([]byte(content))
	}
	f.Add([]byte(" { \"b\\\\\" : [ null , {\"a\":null}, [ ] ,\t{}, -1.5e3,true ,false ], \"T\":1,\"\\u0054\":2,\r\n\"n\":\"null\" , \"\":{\"z\":1,\"a\":[\"\\\"]}\"]}} "))
	f.Add([]byte("{\"EventType\":\"\xff\\n\",\"a\\u0062\":\"\\ud800\",\"ab\":\"\\/é\",\"ab\":0}"))
	f.Add([]byte(`"\\"`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		plain, err := appendWithoutNulls(nil, raw)
		text := canonical(raw)
		if !jsontext.Value(raw).IsValid(lenient...) {
			return // nothing is promised but to come to an end
		}
		require.NoError(t, err)
		require.Equal(t, slowly(t, parser(raw), nil, nil, 0), string(plain))
		require.Equal(t, slowly(t, parser(raw), canonicalText, unidentifying, 0), text)
		require.Equal(t, text, canonical([]byte(text)), "it is its own canonical form")
	})
}

// meaning differs for any two payloads that mean different things. It is made without the canonical form.
func meaning(t testing.TB, raw []byte) string {
	return slowly(t, parser(raw), func(text []rune) string { return fmt.Sprintf("%x", text) }, unidentifying, 0)
}

// requireToldApart checks that two contents have one ID if they mean the same, and only then.
func requireToldApart(t testing.TB, a, b []byte) {
	one, _, err := Decode(a, 1)
	other, _, otherErr := Decode(b, 2)
	if err != nil || otherErr != nil {
		return // what is no notification is not compared, but kept
	}
	require.Equal(t, meaning(t, one.Raw) == meaning(t, other.Raw), one.ID == other.ID, "%q %s\n%q %s", a, one.ID, b, other.ID)
}

// spellings are contents in which one byte more or less can make another text, name, number or field.
var spellings = []string{
	`{"EventType":"A","P":{"a":"\ud800","b":"\udbff\udc00","c":"\ud83d\ude00","\ud800":1,"\udbff":2}}`,
	"{\"EventType\":\"A\",\"P\":{\"a\":\"\xff\\n\",\"b\":\"\xfe\\n\",\"\xed\xa0\x80\":\"\\ud800\",\"\xc3\":\"\xc3\xa9\"}}",
	`{"EventType":"A","P":{"a":1,"a":null,"b":null,"b":2,"c":null,"c":null,"d":[null,{"e":null}]}}`,
	`{"EventType":"A","P":{"a":1.0,"b":-0,"c":1e2,"d":1E2,"e":"\u0000","f":"\\u0000","g":"\u0041A"}}`,
	`{"EventType":"A\u0000{}","T":1,"t":2,"Sign":3,"sign":{},"EventHandle":"h","P":{"T":1,"EventHandle":null}}`,
	`{"EventType":"\ud800","EventType":null,"Event\u0054ype":"B","P":[[],{},"",[{}]]}`,
}

// FuzzTwoPayloads changes one byte, or takes it out, and compares both contents.
func FuzzTwoPayloads(f *testing.F) {
	for _, content := range spellings {
		f.Add([]byte(content), uint(30), byte('a'), false)
		f.Add([]byte(content), uint(33), byte(0), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, at uint, with byte, out bool) {
		if len(raw) == 0 {
			return
		}
		at %= uint(len(raw))
		changed := slices.Clone(raw)
		if changed[at] = with; out {
			changed = slices.Delete(changed, int(at), int(at)+1)
		}
		requireToldApart(t, raw, changed)
	})
}

func TestOnlyPayloadsThatMeanTheSameHaveOneID(t *testing.T) {
	for _, content := range spellings {
		for at := range len(content) {
			requireToldApart(t, []byte(content), []byte(content[:at]+content[at+1:]))
			for _, with := range []byte("d8bcf0A1n\\\"{}[],: \xff\xfe\xa0\xc3") {
				requireToldApart(t, []byte(content), []byte(content[:at]+string([]byte{with})+content[at+1:]))
				requireToldApart(t, []byte(content), []byte(content[:at]+string([]byte{with})+content[at:]))
			}
		}
		for _, other := range spellings {
			requireToldApart(t, []byte(content), []byte(other))
		}
	}
}

// However a character is escaped, it is the same one.
func TestEveryEscapeIsItsCharacter(t *testing.T) {
	for r := range rune(0x10000) {
		want := canonicalText([]rune{r})
		for _, escape := range []string{`"\u%04x"`, `"\u%04X"`} {
			require.Equal(t, want, string(appendCanonical(nil, fmt.Appendf(nil, escape, r))))
		}
		if utf8.ValidRune(r) {
			require.Equal(t, want, string(appendCanonical(nil, quote(utf8.AppendRune(nil, r)))))
		}
	}
}

// cpuTime is what this process has computed so far, whatever else the machine does.
func cpuTime(t testing.TB) time.Duration {
	var usage syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano())
}

// TestManyFieldsAreQuick has more fields than are compared one by one.
func TestManyFieldsAreQuick(t *testing.T) {
	var fields []string
	for i := range 100_000 {
		fields = append(fields, fmt.Sprintf(`"v%d":1`, i), fmt.Sprintf(`"n%d":null`, i))
	}
	fields = append(fields, `"v7":null`, `"n8":8`)
	started := cpuTime(t)
	body, err := appendWithoutNulls(nil, []byte("{"+strings.Join(fields, ",")+"}"))
	require.NoError(t, err)
	require.Less(t, cpuTime(t)-started, 5*time.Second)
	require.Contains(t, string(body), `"v7":null`)
	require.NotContains(t, string(body), `"n8":null`, "the value comes later")
	require.Contains(t, string(body), `"n8":8`)
	require.NotContains(t, string(body), `"n9"`)
}

func TestWhatHasNotTheStructureOfJSONIsAnError(t *testing.T) {
	for _, raw := range []string{
		``, ` `, `{`, `[`, `"`, `"\"`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{,}`, `{"a" 1}`, `{1:2}`, `{"a":1 "b":2}`,
		`[1`, `[1,`, `[1,]`, `[,]`, `[1 2]`, `[}`, `{]`, `1 2`, `{} {}`, `x`, `<html>`, `:`, `{"a":}`, `{"a":x}`, `[null`, `{"a":null`,
		strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1),
		strings.Repeat(`{"a":`, maxDepth) + "{}" + strings.Repeat("}", maxDepth),
	} {
		_, err := appendWithoutNulls(nil, []byte(raw))
		require.Error(t, err, "%.20s", raw)
		canonical([]byte(raw)) // comes to an end
	}
	deep := strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth)
	_, err := appendWithoutNulls(nil, []byte(deep))
	require.NoError(t, err)
	require.True(t, jsontext.Value(deep).IsValid(), "the parser takes it, too")
}

// A huge event, whatever is huge in it, leaves no huge memory behind.
func TestMemoryThatIsKept(t *testing.T) {
	long := strings.Repeat("x", maxKept)
	var short, many []string
	for i := range 2 * maxKept / memberSize {
		many = append(many, fmt.Sprintf(`"%d":1`, i%10))
	}
	for i := range 100 {
		short = append(short, fmt.Sprintf(`"%d":1`, i))
	}
	for _, content := range []string{
		`{"a":"` + long + `"}`,              // as it comes
		`{"b":"` + long + `","a":1}`,        // put into order
		`{` + strings.Join(many, ",") + `}`, // many fields
		`{` + strings.Join(short, ",") + `}`,
	} {
		for range 20 {
			identify("A", []byte(content))
			w := walkers.Get().(*walker)
			kept := cap(w.text) + cap(w.joined) + cap(w.members)*int(unsafe.Sizeof(member{}))
			require.LessOrEqual(t, kept, maxKept)
			walkers.Put(w)
		}
	}
}
