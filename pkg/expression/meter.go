package expression

import (
	"context"
	"fmt"
	"reflect"
	"runtime"
	"time"

	vmruntime "github.com/expr-lang/expr/vm/runtime"
)

// The limits of one evaluation. They count what is done and made, not time, so that an event which is refused
// once is refused always, and is so on every machine.
const (
	// maxSteps is the most work. A step is one operation of a loop on one element, or some bytes of a text to look
	// through: about 10 to 50 ns.
	maxSteps = 10_000_000
	// maxMemory is the most bytes, roughly, of all values that are read from the event and made from them.
	maxMemory = 64 << 20
	// maxText is the longest text that an operation may make, in bytes.
	maxText = 1 << 20
	// maxElements is the most elements of a list that an operation may make, and of all lists and objects that are
	// written as such or made by map and filter.
	maxElements = 100_000
	// maxPattern is the longest regular expression in bytes that may come from an event.
	maxPattern = 1 << 10
	// maxDepth is how deeply lists and objects may stand in each other, as in the JSON that is read.
	maxDepth = 10_000

	// stepsBetweenLooks is how much is done before the context is asked again.
	stepsBetweenLooks = 100_000
	// freeMemory is what an evaluation may take up in bytes without a place.
	freeMemory = 256 << 10
)

// places are for evaluations that need much memory: as many run at a time as the processors can help, and the
// others wait for them.
var places = make(chan struct{}, min(runtime.GOMAXPROCS(0), 4))

// meter counts what one evaluation takes, and ends it at a limit or with its context.
type meter struct {
	ctx      context.Context //nolint:containedctx // it lives as long as one evaluation
	steps    int             // that are left
	look     int             // the steps left at which the context is asked again
	memory   int             // that was taken, in bytes
	loops    int             // that were begun
	hasPlace bool
	ended    error // why the context ended the evaluation
}

func newMeter(ctx context.Context) *meter {
	return &meter{ctx: ctx, steps: maxSteps, look: maxSteps - stepsBetweenLooks}
}

// work takes n steps for what.
func (m *meter) work(what string, n int) error {
	if n > m.steps || n < 0 {
		return fmt.Errorf("%s: the event makes the expression take more than %d steps", what, maxSteps)
	}
	m.steps -= n
	if m.steps > m.look {
		return nil
	}
	m.look = m.steps - stepsBetweenLooks
	return m.end(m.ctx.Err())
}

func (m *meter) end(err error) error {
	if err != nil {
		m.ended = err
	}
	return err
}

// take takes n bytes of memory for what.
func (m *meter) take(what string, n int) error {
	if n > maxMemory-m.memory || n < 0 {
		return fmt.Errorf("%s: the event makes the expression take more than %d bytes of memory", what, maxMemory)
	}
	m.memory += n
	if m.hasPlace || m.memory <= freeMemory {
		return nil
	}
	if err := m.end(m.ctx.Err()); err != nil { // select would take either
		return err
	}
	select {
	case places <- struct{}{}:
		m.hasPlace = true
		return nil
	case <-m.ctx.Done():
		return m.end(m.ctx.Err())
	}
}

// text takes what a new text of n bytes costs.
func (m *meter) text(what string, n int) error {
	if n > maxText || n < 0 {
		return fmt.Errorf("%s: the text would have more than %d bytes", what, maxText)
	}
	if err := m.take(what, n); err != nil {
		return err
	}
	return m.work(what, n/bytesInStep)
}

// list takes what a new list of n elements, or object of n fields, costs.
func (m *meter) list(what string, n int) error {
	if n > maxElements || n < 0 {
		return fmt.Errorf("%s: the list would have more than %d elements", what, maxElements)
	}
	if err := m.take(what, n*sizeOfElement); err != nil {
		return err
	}
	return m.work(what, n)
}

// bytesInStep is how many bytes of a text are looked through or copied in one step.
const bytesInStep = 16

// scan takes what looking through texts of n bytes costs.
func (m *meter) scan(what string, n int) error { return m.work(what, 1+n/bytesInStep) }

// Sizes in bytes, rough and rather too large, of values in memory.
const (
	sizeOfValue   = 16  // what a list or an object holds of each value
	sizeOfElement = 48  // of a list that grows, with the value's own memory
	sizeOfObject  = 48  // without fields
	sizeOfFields  = 272 // of the first 8
	sizeOfField   = 64  // of each further one
	sizeOfLoop    = 512 // what package expr keeps of each loop that was begun, until the evaluation ends
)

// sizes is how much there is in a value: how many lists, objects and other values, and how many bytes they have at
// most as text, escapes aside.
type sizes struct{ values, text int }

// measure goes through v, which can be far larger than the memory that it is in, since lists may hold one value
// many times. It gives up beyond limit bytes of text.
func (m *meter) measure(what string, v any, limit int) (sizes, error) {
	var s sizes
	err := m.measureInto(what, v, limit, 0, &s)
	if err == nil && s.text > limit {
		err = fmt.Errorf("%s: the text would have more than %d bytes", what, limit)
	}
	return s, err
}

func (m *meter) measureInto(what string, v any, limit, depth int, s *sizes) error {
	if err := m.work(what, 1); err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("%s: lists and objects stand in each other more than %d deep", what, maxDepth)
	}
	if s.text > limit { // which measure says
		return nil
	}
	s.values++
	switch v := v.(type) {
	case nil, bool:
		s.text += 6
	case string:
		s.text += len(v) + 3
	case int, int64, uint64:
		s.text += 21
	case float64:
		s.text += 25
	case time.Time, *time.Location, time.Duration:
		s.text += 64
	case []any:
		s.text += 2
		for _, element := range v {
			if err := m.measureInto(what, element, limit, depth+1, s); err != nil {
				return err
			}
		}
	case map[string]any:
		s.text += 5
		for name, value := range v {
			s.text += len(name) + 4
			if err := m.measureInto(what, value, limit, depth+1, s); err != nil {
				return err
			}
		}
	default:
		return m.measureOther(what, reflect.ValueOf(v), limit, depth, s)
	}
	return nil
}

// measureOther is for the types that only functions make.
func (m *meter) measureOther(what string, v reflect.Value, limit, depth int, s *sizes) error {
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		s.text += 2
		for i := range v.Len() {
			if err := m.measureInto(what, v.Index(i).Interface(), limit, depth+1, s); err != nil {
				return err
			}
		}
	case reflect.Map:
		s.text += 5
		for it := v.MapRange(); it.Next(); {
			if err := m.measureInto(what, it.Key().Interface(), limit, depth+1, s); err != nil {
				return err
			}
			if err := m.measureInto(what, it.Value().Interface(), limit, depth+1, s); err != nil {
				return err
			}
		}
	default:
		s.text += 64
	}
	return nil
}

// lengthOf is how many elements a list has, or fields an object; 0 for everything else.
func lengthOf(v any) int {
	switch v := v.(type) {
	case []any:
		return len(v)
	case map[string]any:
		return len(v)
	case nil, string:
		return 0
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		return r.Len()
	}
	return 0
}

// textLength is how many bytes a text has; 0 for everything else.
func textLength(v any) int {
	s, _ := v.(string)
	return len(s)
}

// textAt is the argument at i if it is a text, else "".
func textAt(args []any, i int) string {
	if i >= len(args) {
		return ""
	}
	s, _ := args[i].(string)
	return s
}

// countAt is the number at i, or otherwise if there is none.
func countAt(args []any, i, otherwise int) int {
	if i >= len(args) {
		return otherwise
	}
	if !isNumber(args[i]) {
		return otherwise
	}
	return vmruntime.ToInt(args[i]) // as package expr does
}
