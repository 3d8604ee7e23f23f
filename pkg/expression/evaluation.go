package expression

import (
	"context"
	"sync"

	"github.com/expr-lang/expr/vm"
)

// evaluation is one run of a program on an event. It is used again: making one takes longer than most conditions.
type evaluation struct {
	m       *meter
	env     map[string]any
	machine vm.VM
}

var evaluations = sync.Pool{New: func() any {
	v := &evaluation{m: &meter{}, machine: vm.VM{MemoryBudget: maxElements}}
	v.env = map[string]any{meterName: v.m}
	return v
}}

func begin(ctx context.Context) *evaluation {
	v := evaluations.Get().(*evaluation) //nolint:forcetypeassert // nothing else is in the pool
	*v.m = *newMeter(ctx)
	return v
}

// end gives back the place, and the evaluation if it holds little memory.
func (v *evaluation) end() {
	if v.m.hasPlace {
		<-places
	}
	if v.m.memory > freeMemory || v.m.loops > 100 {
		return
	}
	*v.m = meter{}
	clear(v.env)
	v.env[meterName] = v.m
	clear(v.machine.Stack[:cap(v.machine.Stack)])
	clear(v.machine.Variables)
	evaluations.Put(v)
}
