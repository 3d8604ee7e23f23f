package pipeline

import "github.com/vodrelay/vodrelay/pkg/expression"

// Condition is a compiled yes-or-no expression on events.
type Condition = expression.Condition

// CompileCondition compiles a condition; see expression.CompileCondition for the language.
func CompileCondition(src string) (*Condition, error) { return expression.CompileCondition(src) }
