//go:build unix

// Package pgtest runs a real PostgreSQL server for tests: a new cluster in a temporary directory, on a unix
// socket, that goes with the test. Only tests import it.
package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
)

// Server is a PostgreSQL server that one test owns. Its superuser is postgres, without a password.
type Server struct {
	t         testing.TB
	bin       string // the directory of the programs
	dir       string // of the socket, and of the cluster in data
	settings  []string
	account   *syscall.Credential
	process   *exec.Cmd
	exited    chan struct{}
	log       bytes.Buffer // of the server; read when it has exited
	databases atomic.Int64
}

// Start makes a cluster and runs a server on it until the test ends. settings are lines of postgresql.conf,
// such as "max_connections=20". Without PostgreSQL on the machine the test is skipped, or fails where CI is
// set: scripts/testdeps installs it.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	bin := find()
	if bin == "" {
		const remedy = "no PostgreSQL server found in PATH or /usr/lib/postgresql: run scripts/testdeps, or install the package postgresql"
		if os.Getenv("CI") != "" {
			t.Fatal(remedy)
		}
		t.Skip("NOT TESTED: " + remedy)
	}
	// Not t.TempDir: the path of a socket must be short.
	dir, err := os.MkdirTemp("", "pg")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, bin: bin, dir: dir, settings: settings}
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if s.account, err = credential("postgres"); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, int(s.account.Uid), int(s.account.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	initdb := s.command("initdb", "-D", filepath.Join(dir, "data"), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Run()
	return s
}

// find is the directory of the newest server's programs, "" for none.
func find() string {
	installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	slices.SortFunc(installed, func(a, b string) int { return version(a) - version(b) })
	if n := len(installed); n > 0 {
		return filepath.Dir(installed[n-1])
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(real)
		}
	}
	return ""
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

func credential(name string) (*syscall.Credential, error) {
	account, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is no other user for it: %w", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(account.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err, err2)
}

func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.account}
	return cmd
}

// Run starts the server again after Stop or Kill, and returns when it answers.
func (s *Server) Run() {
	s.t.Helper()
	args := []string{"-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses="}
	for _, setting := range s.settings {
		args = append(args, "-c", setting)
	}
	s.log.Reset()
	s.process = s.command("postgres", args...)
	s.process.Stdout, s.process.Stderr = &s.log, &s.log
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited, process := make(chan struct{}), s.process
	s.exited = exited
	go func() { _ = process.Wait(); close(exited) }()
	for deadline := time.Now().Add(startLimit); ; time.Sleep(20 * time.Millisecond) {
		select {
		case <-exited:
			s.t.Fatalf("the PostgreSQL server has ended:\n%s", s.log.String())
		default:
		}
		if s.command("pg_isready", "-q", "-h", s.dir).Run() == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the PostgreSQL server does not answer within %s", startLimit)
		}
	}
}

// Stop ends the server in order, disconnecting its clients.
func (s *Server) Stop() { s.end(syscall.SIGINT) }

// Kill ends the server at once, as a crash would; Run then has to recover the cluster.
func (s *Server) Kill() { s.end(syscall.SIGQUIT) }

func (s *Server) end(signal syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(signal) // it may have ended by itself
	select {
	case <-s.exited:
	case <-time.After(stopLimit):
		_ = s.process.Process.Kill()
		<-s.exited
		s.t.Error("the PostgreSQL server did not stop")
	}
	s.process = nil
}

// Database makes an empty database and returns its URL.
func (s *Server) Database() string {
	s.t.Helper()
	name := fmt.Sprintf("test%d", s.databases.Add(1))
	if out, err := s.command("createdb", "-h", s.dir, "-U", "postgres", name).CombinedOutput(); err != nil {
		s.t.Fatalf("createdb: %v\n%s", err, out)
	}
	return s.URL(name)
}

// URL is the address of a database of the server.
func (s *Server) URL(database string) string {
	return (&url.URL{Scheme: "postgres", User: url.User("postgres"), Path: "/" + database, RawQuery: url.Values{"host": {s.dir}}.Encode()}).String()
}

// Order has the server carry out statements in the database postgres, as an operator would: one after the
// other, also where it is read-only by default.
func (s *Server) Order(statements ...string) {
	s.t.Helper()
	args := []string{"-h", s.dir, "-U", "postgres", "-q", "-v", "ON_ERROR_STOP=1", "-c", "SET default_transaction_read_only = off"}
	for _, statement := range statements {
		args = append(args, "-c", statement)
	}
	if out, err := s.command("psql", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("psql: %v\n%s", err, out)
	}
}

// MakeReadOnly makes every session read-only that begins from now on, and ends the others, as a failover to a
// standby does; MakeWritable takes it back for sessions that begin later.
func (s *Server) MakeReadOnly() {
	s.t.Helper()
	s.Order("ALTER ROLE postgres SET default_transaction_read_only = on",
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
}

// MakeWritable ends MakeReadOnly.
func (s *Server) MakeWritable() {
	s.t.Helper()
	s.Order("ALTER ROLE postgres RESET default_transaction_read_only")
}

// Freeze stops the server's processes where they are, as a machine that hangs would; Thaw has them go on. It
// is for Linux, and the server must be thawed before the test ends.
func (s *Server) Freeze() { s.each(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() { s.each(syscall.SIGCONT) }

// each signals the server and all its processes, the one that makes others first.
func (s *Server) each(signal syscall.Signal) {
	s.t.Helper()
	main := s.process.Process.Pid
	if err := syscall.Kill(main, signal); err != nil {
		s.t.Fatal(err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", main, main))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			s.t.Fatal(err)
		}
		_ = syscall.Kill(pid, signal) // it may have ended by itself
	}
}
