package kubernetes_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/vodrelay/vodrelay/deploy/test/internal/repo"
	"github.com/vodrelay/vodrelay/deploy/test/internal/sandbox"
)

const (
	uploads    = 20
	adminToken = "0123456789abcdef0123456789abcdef"
)

// TestRun runs the pods' containers as the kubelet would, with the ConfigMap, the Secret and the volumes
// where the pod says, on a file system that cannot be written to, against the emulator.
func TestRun(t *testing.T) {
	if !sandbox.Available(t) {
		return
	}
	binary := repo.Build(t)
	manifests := map[string]manifest{}
	for _, name := range []string{"base", "overlays/postgres", "overlays/volume", "overlays/drain-job", "overlays/drain-cronjob"} {
		manifests["kustomize "+name] = kustomized(t, name)
	}
	for _, name := range []string{"defaults", "postgres", "statefulset", "job", "cronjob", "callback"} {
		manifests["helm "+name] = templated(t, values[name]+"\n")
	}
	for name, m := range manifests {
		t.Run(name, func(t *testing.T) {
			p := pods(t, m)[0]
			c := place(t, binary, m, p)
			out, err := c.command("config", "show").CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.NotContains(t, string(out), adminToken)
			switch {
			case env(p)["VODRELAY_STORE_DRIVER"] == "postgres":
				// There is no database: what it would be asked is tested with the store.
			case p.daemon:
				c.relay(t)
			default:
				c.drain(t)
			}
		})
	}
}

// container is a container that is ready to run.
type container struct {
	t      *testing.T
	root   string
	mounts []sandbox.Mount
	env    []string
	args   []string
	pod    pod
	admin  string // address of the admin server
	// callback is the address of the callback's receiver, if there is one.
	callback string
}

// place makes what the pod's container sees.
func place(t *testing.T, binary string, m manifest, p pod) *container {
	t.Helper()
	c := &container{t: t, root: t.TempDir(), pod: p, args: p.container().Args}
	require.NoError(t, os.Chmod(c.root, 0o755))
	require.NoError(t, os.Link(binary, filepath.Join(c.root, "vodrelay")))
	from := map[string]string{}
	for _, claim := range p.claims {
		from[claim.Name] = t.TempDir()
	}
	for _, v := range p.Volumes {
		dir := t.TempDir()
		from[v.Name] = dir
		switch {
		case v.ConfigMap != nil:
			for name, text := range all[*corev1.ConfigMap](m)[0].Data {
				require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
			}
		case v.Secret != nil:
			for name, text := range map[string]string{
				"secret_id": "set by the test", "secret_key": "set by the test", "admin_token": adminToken + "\n", "sign_key": "0123456789abcdef",
				"postgres_url": "postgres://user:password@127.0.0.1:1/vodrelay",
			} {
				path := filepath.Join(dir, name)
				require.NoError(t, os.WriteFile(path, []byte(text), os.FileMode(*v.Secret.DefaultMode)))
				require.NoError(t, os.Chown(path, 0, int(*p.SecurityContext.FSGroup)))
			}
		}
	}
	for _, mount := range p.container().VolumeMounts {
		require.NoError(t, os.Chmod(from[mount.Name], 0o755))
		c.mounts = append(c.mounts, sandbox.Mount{From: from[mount.Name], Path: mount.MountPath, Writable: !mount.ReadOnly})
	}
	for name, value := range env(p) {
		switch name { // pods do not share ports, tests do
		case "VODRELAY_ADMIN_LISTEN":
			c.admin = freeAddress(t)
			value = strings.Replace(c.admin, "127.0.0.1", "0.0.0.0", 1)
		case "VODRELAY_CALLBACK_LISTEN":
			c.callback = freeAddress(t)
			value = strings.Replace(c.callback, "127.0.0.1", "0.0.0.0", 1)
		}
		c.env = append(c.env, name+"="+value)
	}
	if c.admin == "" {
		c.env = append(c.env, "VODRELAY_ADMIN_LISTEN=127.0.0.1:0")
	}
	return c
}

func (c *container) command(args ...string) *exec.Cmd {
	return sandbox.Command(c.t, c.root, c.mounts, c.env, append([]string{"/vodrelay"}, args...)...)
}

// use has the container relay from the emulator.
func (c *container) use(t *testing.T) {
	t.Helper()
	id, key, url := emulate(t, filepath.Join(c.root, "vodrelay"))
	c.env = append(c.env, "VODRELAY_VOD_ENDPOINT="+url, "VODRELAY_VOD_SUB_APP_IDS=1500000001")
	for _, m := range c.mounts {
		if m.Path == "/run/secrets/vodrelay" {
			require.NoError(t, os.WriteFile(filepath.Join(m.From, "secret_id"), []byte(id), 0o440))
			require.NoError(t, os.WriteFile(filepath.Join(m.From, "secret_key"), []byte(key), 0o440))
			return
		}
	}
	// With TKE's OIDC there is no Secret; its token cannot be had here.
	c.env = append(c.env, "TENCENTCLOUD_SECRET_ID="+id, "TENCENTCLOUD_SECRET_KEY="+key)
}

// relay runs the daemon until its probes succeed, and stops it.
func (c *container) relay(t *testing.T) {
	c.use(t)
	cmd := c.command(c.args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	probes := c.pod.container()
	for _, probe := range []*corev1.Probe{probes.StartupProbe, probes.LivenessProbe, probes.ReadinessProbe} {
		require.Eventually(t, func() bool { return c.get(probe.HTTPGet.Path, "") == http.StatusOK }, 20*time.Second, 50*time.Millisecond, "%s: %s", probe.HTTPGet.Path, &stderr)
	}
	require.Equal(t, http.StatusOK, c.get("/metrics", ""))
	require.Equal(t, http.StatusOK, c.get("/status", ""))
	require.Equal(t, http.StatusUnauthorized, c.get("/", ""), "a page with events needs the token")
	require.Equal(t, http.StatusOK, c.get("/", adminToken))
	if c.callback != "" {
		resp, err := http.Post("http://"+c.callback+env(c.pod)["VODRELAY_CALLBACK_PATH"], "application/json", strings.NewReader(`{"EventType":"NewFileUpload"}`))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode, "it is not signed")
	}
	if env(c.pod)["VODRELAY_STORE_DRIVER"] != "none" {
		out, err := c.command("parcels", "list").CombinedOutput() // as by kubectl exec
		require.NoError(t, err, "%s", out)
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-ended:
		require.NoError(t, err, "%s", &stderr)
	case <-time.After(time.Duration(*c.pod.TerminationGracePeriodSeconds) * time.Second):
		t.Fatal("the kubelet would have killed it")
	}
	require.Equal(t, uploads, strings.Count(stdout.String(), "\n"), "each event on a line")
}

// drain runs the job to its end, which does not wait for other consumers here.
func (c *container) drain(t *testing.T) {
	c.use(t)
	cmd := c.command(append(slices.Clone(c.args), "--quiet-for", "0")...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	require.Equal(t, uploads, strings.Count(string(out), "\n"), "each event on a line")
}

// get is the status of an answer of the admin server, 0 for none.
func (c *container) get(path, token string) int {
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.admin+path, nil)
	if err != nil {
		return 0
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return "127.0.0.1:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

var announced = regexp.MustCompile(`(?s)TENCENTCLOUD_SECRET_ID=(\S+) TENCENTCLOUD_SECRET_KEY=(\S+).*VODRELAY_VOD_ENDPOINT=(\S+)`)

// emulate runs the emulator with some events in its queue until the test ends.
func emulate(t *testing.T, binary string) (id, key, url string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "emulator", "--listen", "127.0.0.1:0", "--uploads", fmt.Sprint(uploads))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Wait() })
	var text strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if found := announced.FindStringSubmatch(text.String()); found != nil {
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return found[1], found[2], found[3]
		}
	}
	t.Fatalf("the emulator did not start: %s", &text)
	return "", "", ""
}
