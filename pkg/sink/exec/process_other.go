//go:build !unix

package exec

import (
	"os"
	"os/exec"
)

// setGroup does nothing: there are no process groups here.
func setGroup(*exec.Cmd) {}

// terminate ends the command, but not its children.
func terminate(p *os.Process) error { return p.Kill() }

// kill has nothing left to do.
func kill(*os.Process) {}
