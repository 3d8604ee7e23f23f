//go:build unix

package exec

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// setGroup gives the command a process group of its own, so that it can be ended with its children, and so
// that Ctrl-C in a terminal reaches vodrelay alone, which then stops in order.
func setGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// terminate asks the command and its children to end.
func terminate(p *os.Process) error {
	if err := syscall.Kill(-p.Pid, syscall.SIGTERM); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return os.ErrProcessDone
}

// kill ends what is left of the group. It is called after the command was waited for, when a group of this
// number exists only as long as a child of the command is in it.
func kill(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
