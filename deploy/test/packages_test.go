//go:build linux

package test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// scratch is where the packages are built; TestMain removes it.
var scratch string

// build makes the packages of version 1.0.0 once for all tests.
var build = sync.OnceValue(func() error {
	var err error
	if scratch, err = os.MkdirTemp("", "vodrelay-packages-"); err != nil {
		return err
	}
	cmd := exec.Command("../../scripts/package", "1.0.0")
	cmd.Env = append(os.Environ(), "DIST="+scratch, "ARCHS="+runtime.GOARCH)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("scripts/package: %w\n%s", err, out)
	}
	return nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(scratch) // "" is nothing
	os.Exit(code)
}

// packages is the directory with the deb and the rpm.
func packages(t *testing.T) string {
	t.Helper()
	check(t, build())
	return scratch
}

// TestDebOnAMachine goes the way of an administrator: install, configure, run, upgrade, remove, purge.
func TestDebOnAMachine(t *testing.T) {
	if os.Getenv(insideMachine) == "" {
		shared := packages(t)
		inMachine(t, shared)
		return
	}
	deb := run(t, "ls /mnt/shared/*.deb")
	for _, step := range []struct {
		name string
		f    func(*testing.T)
	}{
		{"install", func(t *testing.T) { installed(t, deb) }},
		{"start", started},
		{"confinement", confined},
		{"journal", journal},
		{"reload", reloaded},
		{"logrotate", rotated},
		{"crash", restarted},
		{"watchdog", watched},
		{"wrong configuration", misconfigured},
		{"drain", drained},
		{"upgrade", func(t *testing.T) { upgraded(t, deb) }},
		{"remove", removed},
		{"purge", purged},
	} {
		if !t.Run(step.name, step.f) {
			return // the next ones build on it
		}
	}
}

const (
	service = "vodrelay.service"
	config  = "/etc/vodrelay/vodrelay.yaml"
	events  = "/var/log/vodrelay/events.jsonl"
)

// packaged are files of both packages.
var packaged = map[string]string{
	"/var/lib/vodrelay":                                  "700 vodrelay vodrelay",
	"/var/log/vodrelay":                                  "750 vodrelay vodrelay",
	"/usr/bin/vodrelay":                                  "755 root root",
	config:                                               "640 root vodrelay",
	"/etc/vodrelay/credentials":                          "700 root root",
	"/etc/logrotate.d/vodrelay":                          "644 root root",
	"/usr/lib/systemd/system/vodrelay.service":           "644 root root",
	"/usr/lib/systemd/system/vodrelay-drain.timer":       "644 root root",
	"/usr/share/man/man1/vodrelay-drain.1.gz":            "644 root root",
	"/usr/share/bash-completion/completions/vodrelay":    "644 root root",
	"/usr/share/zsh/vendor-completions/_vodrelay":        "644 root root",
	"/usr/share/fish/vendor_completions.d/vodrelay.fish": "644 root root",
	"/usr/share/vodrelay/vodrelay.yaml":                  "644 root root",
	"/usr/share/vodrelay/examples/webhook.yaml":          "644 root root",
	"/usr/share/vodrelay/examples":                       "755 root root",
	"/usr/share/vodrelay/examples/nodejs/consumer.mjs":   "644 root root",
	"/usr/share/doc/vodrelay/README.md":                  "644 root root",
	"/usr/share/doc/vodrelay/CHANGELOG.md":               "644 root root",
	"/usr/share/doc/vodrelay/copyright":                  "644 root root",
}

func installed(t *testing.T, deb string) {
	run(t, "dpkg --install "+deb)
	for path, want := range packaged {
		same(t, path, want, run(t, "stat -c '%a %U %G' "+path))
	}
	namedFilesAreThere(t)
	licensed(t, run(t, "cat /usr/share/doc/vodrelay/copyright"))
	contains(t, run(t, "getent passwd vodrelay"), ":/var/lib/vodrelay:/usr/sbin/nologin")
	same(t, "not enabled", "disabled", strings.Split(shell("systemctl is-enabled "+service), "\n")[1])
	same(t, "not started", "inactive", property(t, service, "ActiveState"))
	contains(t, run(t, "vodrelay version"), "vodrelay v1.0.0 ")
	contains(t, run(t, "bash -c '. /usr/share/bash-completion/completions/vodrelay && complete -p vodrelay'"), "vodrelay")
	contains(t, run(t, "zcat /usr/share/man/man1/vodrelay-drain.1.gz"), "drain")

	wantType, wantReload := "notify-reload", ""
	if systemdVersion() < 253 {
		wantType, wantReload = "notify", "argv[]=/bin/kill -HUP $MAINPID"
	}
	same(t, "type", wantType, property(t, service, "Type"))
	contains(t, property(t, service, "ExecReload"), wantReload)
	same(t, "can be reloaded", "yes", property(t, service, "CanReload"))
}

// namedFilesAreThere checks what the configuration tells to read.
func namedFilesAreThere(t *testing.T) {
	t.Helper()
	named := regexp.MustCompile(`/usr/share/\S+\.yaml`).FindAllString(run(t, "cat "+config), -1)
	if len(named) == 0 {
		t.Fatal("the configuration names no file")
	}
	for _, path := range named {
		run(t, "test -s "+path+" && test -s $(dirname "+path+")/examples/webhook.yaml")
	}
}

// licensed checks that the text has our license, and those of the modules inside, of which these are some.
func licensed(t *testing.T, text string) {
	t.Helper()
	for _, want := range []string{"Apache License", "Go@go1.", "modernc.org/sqlite@v", "github.com/twmb/franz-go@v", "zstd/internal/xxhash/LICENSE.txt",
		"Copyright 2009 The Go Authors", "github.com/prometheus/client_golang@v"} {
		contains(t, text, want)
	}
}

func started(t *testing.T) {
	run(t, `printf '[Service]\nExecStart=/usr/bin/vodrelay emulator --uploads 20\n' >/run/systemd/system/emulator.service && systemctl start emulator`)
	waitFor(t, "the emulator tells its key", func() bool { return strings.Contains(shell("journalctl --unit emulator"), "SECRET_KEY=") })
	key := regexp.MustCompile(`SECRET_ID=(\S+) TENCENTCLOUD_SECRET_KEY=(\S+)`).FindStringSubmatch(shell("journalctl --unit emulator"))
	run(t, "install -m 600 /dev/stdin /etc/vodrelay/credentials/secret_id <<<"+key[1])
	run(t, "install -m 600 /dev/stdin /etc/vodrelay/credentials/secret_key <<<"+key[2])
	run(t, "sed -i 's|#sub_app_ids:.*|sub_app_ids: [1500000001]|; s|#endpoint:.*|endpoint: http://127.0.0.1:9090|' "+config)
	contains(t, run(t, "CREDENTIALS_DIRECTORY=/etc/vodrelay/credentials vodrelay check"), "about 20 events are waiting")
	run(t, "systemctl enable --now "+service)
	same(t, "state", "active", property(t, service, "ActiveState"))
	eventsArrive(t, 20)
	waitFor(t, "the status tells the rate", func() bool { return strings.Contains(property(t, service, "StatusText"), "events/s, 20 confirmed") })
	contains(t, shell("vodrelay parcels list"), "0 waiting")
}

// eventsArrive waits until the file has n lines, and all events are confirmed.
func eventsArrive(t *testing.T, n int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d events are in the file", n), func() bool { return shell("wc -l <"+events) == fmt.Sprint(n) })
	// What is killed before its confirms would get the events again.
	waitFor(t, "they are confirmed", func() bool {
		reply, err := http.Get("http://127.0.0.1:9090/_emulator/state")
		check(t, err)
		defer reply.Body.Close()
		var state struct {
			Total struct{ Ready, Leased int }
		}
		check(t, json.NewDecoder(reply.Body).Decode(&state))
		return state.Total.Ready+state.Total.Leased == 0
	})
}

// publish puts n events into the queue.
func publish(t *testing.T, n int) {
	t.Helper()
	reply, err := http.Post(fmt.Sprintf("http://127.0.0.1:9090/_emulator/events?sub_app_id=1500000001&generate=%d&seed=%d", n, time.Now().UnixNano()), "", nil)
	check(t, err)
	_ = reply.Body.Close()
	same(t, "publishing", "200 OK", reply.Status)
}

func confined(t *testing.T) {
	status := run(t, "cat /proc/"+property(t, service, "MainPID")+"/status")
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"} {
		contains(t, status, want)
	}
	pid := property(t, service, "MainPID")
	if limits := run(t, "cat /proc/"+pid+"/limits"); !regexp.MustCompile(`Max core file size +0 +0 `).MatchString(limits) {
		t.Fatalf("core files are allowed:\n%s", limits)
	}
	same(t, "what of the machine is in its /proc", "", run(t, "nsenter --target "+pid+" --mount ls /proc | grep -E '^(meminfo|cpuinfo|stat|sys|kallsyms)$' || true"))
	// It is no less watched for it: what of the process itself comes from /proc.
	reply, err := http.Get("http://127.0.0.1:9464/metrics")
	check(t, err)
	defer reply.Body.Close()
	metrics, err := io.ReadAll(reply.Body)
	check(t, err)
	for _, want := range []string{"process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"} {
		contains(t, string(metrics), want)
	}
	// Nobody of its user looks into it.
	contains(t, shell("setpriv --reuid=vodrelay --regid=vodrelay --clear-groups cat /proc/"+pid+"/environ"), "Permission denied")
}

// journal checks that journald got the priorities, and lines without a time.
func journal(t *testing.T) {
	for line := range strings.Lines(run(t, "journalctl --unit "+service+" --output json _COMM=vodrelay")) {
		var entry struct{ MESSAGE, PRIORITY string }
		check(t, json.Unmarshal([]byte(line), &entry))
		var fields map[string]any
		if err := json.Unmarshal([]byte(entry.MESSAGE), &fields); err != nil {
			t.Fatalf("%q is no JSON", entry.MESSAGE)
		}
		if fields["time"] != nil {
			t.Fatalf("a time of its own: %s", line)
		}
		same(t, "priority of "+entry.MESSAGE, map[string]string{"info": "6", "warn": "4", "error": "3"}[fields["level"].(string)], entry.PRIORITY)
	}
}

func reloaded(t *testing.T) {
	pid := property(t, service, "MainPID")
	run(t, "mv "+events+" /var/log/vodrelay/before")
	run(t, "systemctl reload "+service)
	waitFor(t, "the file is made anew", func() bool { _, err := os.Stat(events); return err == nil })
	same(t, "process", pid, property(t, service, "MainPID"))
	same(t, "state", "active", property(t, service, "ActiveState"))
	run(t, "mv /var/log/vodrelay/before "+events+" && systemctl reload "+service)

	run(t, "cp -p "+config+" /tmp/config")
	run(t, `sed -i '/path: .*events.jsonl/a\  - {name: copy, type: exec, command: [sh, -c, "cat >>/var/log/vodrelay/copy"]}' `+config)
	run(t, "systemctl reload "+service)
	waitFor(t, "the new sink is there", func() bool {
		publish(t, 1)
		_, err := os.Stat("/var/log/vodrelay/copy")
		return err == nil
	})
	run(t, "sed -i 's/type: exec/type: exce/' "+config+" && systemctl reload "+service)
	waitFor(t, "the status tells of a reload that failed", func() bool { return strings.Contains(property(t, service, "StatusText"), "the reload failed") })
	run(t, "cp -p /tmp/config "+config+" && systemctl reload "+service)
	waitFor(t, "the status is well again", func() bool { return !strings.Contains(property(t, service, "StatusText"), "failed") })
	same(t, "process", pid, property(t, service, "MainPID"))
	waitFor(t, "nothing is in hand", func() bool { return strings.Contains(property(t, service, "StatusText"), " 0 in hand") })
}

func rotated(t *testing.T) {
	if _, err := exec.LookPath("logrotate"); err != nil {
		missing(t, "logrotate is not installed")
	}
	before := run(t, "wc -l <"+events)
	run(t, "logrotate --force /etc/logrotate.d/vodrelay")
	waitFor(t, "the file is made anew", func() bool { return shell("wc -l <"+events) == "0" })
	same(t, "the rotated file", before+" /var/log/vodrelay/events.jsonl.1", run(t, "wc -l "+events+".1"))
	same(t, "owner", "vodrelay", run(t, "stat -c %U "+events))
	publish(t, 5)
	eventsArrive(t, 5)
}

func restarted(t *testing.T) {
	pid := property(t, service, "MainPID")
	run(t, "kill -9 "+pid)
	runsAnew(t, pid)
	same(t, "restarts", "1", property(t, service, "NRestarts"))
}

// runsAnew waits until the service runs as another process than pid.
func runsAnew(t *testing.T, pid string) {
	t.Helper()
	waitFor(t, "it runs again", func() bool {
		now := property(t, service, "MainPID")
		return now != pid && now != "0" && property(t, service, "ActiveState") == "active"
	})
}

func watched(t *testing.T) {
	run(t, `mkdir -p /run/systemd/system/vodrelay.service.d
		printf '[Service]\nWatchdogSec=2s\nRestartSec=1s\nRestartSteps=0\n' >/run/systemd/system/vodrelay.service.d/test.conf
		systemctl daemon-reload && systemctl restart vodrelay.service`)
	pid := property(t, service, "MainPID")
	time.Sleep(3 * time.Second)
	same(t, "process, which gives signs of life", pid, property(t, service, "MainPID"))
	run(t, "kill -STOP "+pid)
	runsAnew(t, pid)
	contains(t, run(t, "journalctl --no-pager --unit "+service), "Watchdog timeout")
	run(t, "rm -r /run/systemd/system/vodrelay.service.d && systemctl daemon-reload && systemctl restart "+service)
}

func misconfigured(t *testing.T) {
	run(t, "cp -p "+config+" /tmp/config && sed -i 's/type: file/type: fiel/' "+config)
	shell("systemctl restart " + service)
	same(t, "state, with no restart to come", "failed", property(t, service, "ActiveState"))
	same(t, "exit code", "78", property(t, service, "ExecMainStatus"))
	run(t, "cp -p /tmp/config "+config+" && systemctl restart "+service)
}

func drained(t *testing.T) {
	run(t, "systemctl start vodrelay-drain.service")
	same(t, "the drain is skipped while the daemon runs", "no", property(t, "vodrelay-drain.service", "ConditionResult"))
	run(t, "systemctl stop "+service)
	run(t, "vodrelay parcels list") // as root, which must leave no file that the daemon cannot write
	publish(t, 7)
	run(t, "systemctl start --no-block vodrelay-drain.service && systemctl start "+service)
	same(t, "the drain", "yes", property(t, "vodrelay-drain.service", "ConditionResult"))
	same(t, "the drain, which the daemon waited for", "success inactive", property(t, "vodrelay-drain.service", "Result")+" "+property(t, "vodrelay-drain.service", "ActiveState"))
	contains(t, run(t, "journalctl --no-pager --unit vodrelay-drain.service"), "drain ended")
	eventsArrive(t, 12)
	same(t, "state", "active", property(t, service, "ActiveState"))
	run(t, "systemctl enable --now vodrelay-drain.timer")
	same(t, "the timer", "active", property(t, "vodrelay-drain.timer", "ActiveState"))
}

func upgraded(t *testing.T, deb string) {
	pid := property(t, service, "MainPID")
	run(t, `dpkg-deb --raw-extract `+deb+` /tmp/next
		sed -i 's/^Version: .*/Version: 1.0.1/' /tmp/next/DEBIAN/control
		echo '# new' >>/tmp/next/etc/vodrelay/vodrelay.yaml
		echo '# new' >>/tmp/next/etc/logrotate.d/vodrelay
		dpkg-deb --build -Zgzip -z1 /tmp/next /tmp/next.deb`)
	before := run(t, "cat "+config)
	// As slim images do: what the configuration names, and the licenses, are left.
	run(t, "dpkg --install --force-confdef --force-confold --path-exclude='/usr/share/doc/*' --path-include='/usr/share/doc/*/copyright' /tmp/next.deb")
	run(t, "test ! -e /usr/share/doc/vodrelay/README.md")
	namedFilesAreThere(t)
	licensed(t, run(t, "cat /usr/share/doc/vodrelay/copyright"))
	same(t, "a changed configuration", before, run(t, "cat "+config))
	same(t, "its mode", "640 root vodrelay", run(t, "stat -c '%a %U %G' "+config))
	contains(t, run(t, "cat /etc/logrotate.d/vodrelay"), "# new")
	same(t, "state", "active", property(t, service, "ActiveState"))
	if pid == property(t, service, "MainPID") {
		t.Fatal("the service was not restarted")
	}
	same(t, "enabled", "enabled", run(t, "systemctl is-enabled "+service))
	run(t, "vodrelay parcels list")
}

func removed(t *testing.T) {
	run(t, "dpkg --remove vodrelay")
	same(t, "state", "inactive", property(t, service, "ActiveState"))
	run(t, "test ! -e /usr/bin/vodrelay && test ! -e /etc/systemd/system/multi-user.target.wants/vodrelay.service && test ! -e /usr/lib/systemd/system/vodrelay.service.d")
	run(t, "test -e "+config+" && test -e /var/lib/vodrelay/vodrelay.db && test -e "+events+" && test -e /etc/vodrelay/credentials/secret_key")
}

func purged(t *testing.T) {
	run(t, "dpkg --purge vodrelay")
	run(t, "test ! -e /etc/vodrelay && test ! -e /var/lib/vodrelay && test ! -e /var/log/vodrelay && test ! -e /etc/logrotate.d/vodrelay")
	run(t, "getent passwd vodrelay")
	if left := shell("dpkg --listfiles vodrelay 2>/dev/null; systemctl list-unit-files 'vodrelay*' --no-legend"); strings.Contains(left, "vodrelay.service") {
		t.Fatal(left)
	}
}
