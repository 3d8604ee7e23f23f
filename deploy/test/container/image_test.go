package container_test

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/stretchr/testify/require"

	"github.com/vodrelay/vodrelay/deploy/test/internal/repo"
	"github.com/vodrelay/vodrelay/deploy/test/internal/sandbox"
)

const (
	version  = "v1.2.3-test"
	revision = "0123456789abcdef0123456789abcdef01234567"
	// certificates are where Debian, and so the image golang, has them.
	certificates = "/etc/ssl/certs/ca-certificates.crt"
	zones        = "/usr/local/go/lib/time/zoneinfo.zip"
	licenses     = "/usr/share/licenses/vodrelay/LICENSE"
)

// TestImage goes through the Dockerfile's steps without a container engine: it runs what the build stage
// runs, makes the image that the final stage describes, and runs that image's program.
func TestImage(t *testing.T) {
	build, final := dockerfile(t)
	out := runBuild(t, build)
	img := assemble(t, final, out)
	dir := t.TempDir()
	_, err := layout.Write(dir, mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img}))
	require.NoError(t, err)
	archive := filepath.Join(dir, "vodrelay.tar")
	tag, err := name.NewTag("vodrelay/vodrelay:" + strings.TrimPrefix(version, "v"))
	require.NoError(t, err)
	require.NoError(t, tarball.WriteToFile(archive, tag, img))
	img, err = tarball.ImageFromPath(archive, &tag) // as `docker load` reads it
	require.NoError(t, err)
	require.NoError(t, validate.Image(img))
	file, err := img.ConfigFile()
	require.NoError(t, err)
	config := file.Config
	size, err := os.Stat(archive)
	require.NoError(t, err)
	t.Logf("the image has %d MiB", size.Size()>>20)

	require.Equal(t, "65532:65532", config.User, "Kubernetes' runAsNonRoot needs a number")
	require.Equal(t, []string{"/usr/local/bin/vodrelay"}, config.Entrypoint)
	require.Equal(t, []string{"run"}, config.Cmd)
	require.Contains(t, config.Volumes, "/var/lib/vodrelay")
	require.Contains(t, config.ExposedPorts, "9464/tcp")
	require.Equal(t, version, config.Labels["org.opencontainers.image.version"])
	require.Equal(t, revision, config.Labels["org.opencontainers.image.revision"])
	require.Equal(t, "Apache-2.0", config.Labels["org.opencontainers.image.licenses"])
	for _, label := range []string{"title", "description", "source", "documentation"} {
		require.NotEmpty(t, config.Labels["org.opencontainers.image."+label])
	}

	if sandbox.Available(t) {
		runImage(t, unpack(t, img), config)
	}
}

// runBuild runs the last RUN of the build stage that builds the program, with /out as the returned directory.
func runBuild(t *testing.T, stage instructions.Stage) string {
	t.Helper()
	out := t.TempDir()
	ran := false
	for _, c := range all[*instructions.RunCommand](stage) {
		line := strings.Join(c.CmdLine, " ")
		if strings.Contains(line, "go mod download") {
			continue // the modules are here
		}
		ran = ran || strings.Contains(line, "go build")
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(line, "/out", out))
		cmd.Dir = repo.Path()
		cmd.Env = append(os.Environ(), "VERSION="+version, "TARGETOS=linux", "TARGETARCH="+runtime.GOARCH)
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", line, output)
	}
	require.True(t, ran)
	return out
}

// assemble makes the image of the final stage. What it copies from the build stage is in out, or is what the
// image golang has.
func assemble(t *testing.T, stage instructions.Stage, out string) v1.Image {
	t.Helper()
	args := strings.NewReplacer("$VERSION", version, "$REVISION", revision)
	config := v1.Config{Labels: map[string]string{}, Volumes: map[string]struct{}{}, ExposedPorts: map[string]struct{}{}}
	img := empty.Image
	for _, command := range stage.Commands {
		switch c := command.(type) {
		case *instructions.ArgCommand:
		case *instructions.LabelCommand:
			for _, l := range c.Labels {
				config.Labels[strings.Trim(l.Key, `"`)] = args.Replace(strings.Trim(l.Value, `"`))
			}
		case *instructions.EnvCommand:
			for _, e := range c.Env {
				config.Env = append(config.Env, e.Key+"="+e.Value)
			}
		case *instructions.UserCommand:
			config.User = c.User
		case *instructions.VolumeCommand:
			for _, v := range c.Volumes {
				config.Volumes[v] = struct{}{}
			}
		case *instructions.ExposeCommand:
			for _, p := range c.Ports {
				config.ExposedPorts[p+"/tcp"] = struct{}{}
			}
		case *instructions.EntrypointCommand:
			config.Entrypoint = c.CmdLine
		case *instructions.CmdCommand:
			config.Cmd = c.CmdLine
		case *instructions.CopyCommand:
			require.Equal(t, "build", c.From)
			require.Len(t, c.SourcePaths, 1)
			source := strings.Replace(c.SourcePaths[0], "/out", out, 1)
			source = strings.Replace(source, "/usr/local/go", goRoot(t), 1)
			if source == certificates {
				source = certificateFile(t)
			}
			content := copied(t, source, c.DestPath, c.Chown)
			layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
			require.NoError(t, err)
			img, err = mutate.AppendLayers(img, layer)
			require.NoError(t, err)
		default:
			t.Fatalf("the test does not know what %s does", c.Name())
		}
	}
	img, err := mutate.ConfigFile(img, configFile(t, img, config))
	require.NoError(t, err)
	return img
}

func goRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(out))
}

func configFile(t *testing.T, img v1.Image, config v1.Config) *v1.ConfigFile {
	t.Helper()
	file, err := img.ConfigFile()
	require.NoError(t, err)
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	return file
}

// certificateFile is Debian's file, or an empty one where the machine is not Debian: the program is not run
// against the cloud here.
func certificateFile(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(certificates); err == nil {
		return certificates
	}
	require.Empty(t, os.Getenv("CI"), "apt-get install ca-certificates")
	file := filepath.Join(t.TempDir(), "none.crt")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	return file
}

// copied is the layer of a COPY of a file or an empty directory.
func copied(t *testing.T, source, dest, chown string) []byte {
	t.Helper()
	info, err := os.Stat(source)
	require.NoError(t, err)
	uid, gid := 0, 0
	if chown != "" {
		user, group, _ := strings.Cut(chown, ":")
		uid, err = strconv.Atoi(user)
		require.NoError(t, err)
		gid, err = strconv.Atoi(group)
		require.NoError(t, err)
	}
	header := &tar.Header{Name: strings.TrimPrefix(dest, "/"), Uid: uid, Gid: gid, Mode: int64(info.Mode().Perm()), Typeflag: tar.TypeDir}
	var content []byte
	if !info.IsDir() {
		header.Typeflag = tar.TypeReg
		content, err = os.ReadFile(source)
		require.NoError(t, err)
		header.Size = int64(len(content))
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	for dir := range parents(header.Name) {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}))
	}
	require.NoError(t, w.WriteHeader(header))
	_, err = w.Write(content)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return layer.Bytes()
}

// parents are the directories above a path, from the top.
func parents(name string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		var up []string
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			up = append(up, dir)
		}
		for _, dir := range slices.Backward(up) {
			if !yield(dir) {
				return
			}
		}
	}
}

// unpack makes the image's file system.
func unpack(t *testing.T, img v1.Image) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.Chmod(root, 0o755))
	files := mutate.Extract(img)
	defer func() { _ = files.Close() }()
	var names []string
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		at := filepath.Join(root, h.Name)
		if h.Typeflag == tar.TypeDir {
			require.NoError(t, os.MkdirAll(at, fs.FileMode(h.Mode)))
		} else {
			names = append(names, "/"+h.Name)
			content, err := io.ReadAll(r)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(at, content, fs.FileMode(h.Mode)))
		}
		require.NoError(t, os.Chown(at, h.Uid, h.Gid))
	}
	require.ElementsMatch(t, []string{certificates, zones, licenses, "/usr/local/bin/vodrelay"}, names, "nothing else is in the image")
	return root
}

// runImage runs the image's program as its user, on a file system that cannot be written to but for the
// volume.
func runImage(t *testing.T, root string, config v1.Config) {
	t.Helper()
	state, err := os.Stat(filepath.Join(root, "var/lib/vodrelay"))
	require.NoError(t, err)
	require.True(t, state.IsDir())
	volume := sandbox.Mount{From: t.TempDir(), Path: "/var/lib/vodrelay", Writable: true}
	command := func(env []string, mounts []sandbox.Mount, args ...string) (string, error) {
		cmd := sandbox.Command(t, root, mounts, append(env, config.Env...), append(slices.Clone(config.Entrypoint), args...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	run := func(mounts []sandbox.Mount, args ...string) string {
		out, err := command(nil, mounts, args...)
		require.NoError(t, err, out)
		return out
	}
	require.Contains(t, run(nil, "version"), "vodrelay "+version+" ")
	require.Contains(t, run(nil, "config", "show"), "endpoint: https://vod.tencentcloudapi.com")
	// The tour relays from the emulator over the SDK to a webhook, and accounts for every event.
	require.Contains(t, run([]sandbox.Mount{volume}, "demo"), "received  NewFileUpload")

	away := []string{"TZ=Asia/Shanghai", "VODRELAY_ADMIN_LISTEN=127.0.0.1:0", "VODRELAY_VOD_ENDPOINT=http://127.0.0.1:1", "TENCENTCLOUD_SECRET_ID=a", "TENCENTCLOUD_SECRET_KEY=b"}
	// Without a volume the store cannot be made: the program says why, and goes on without it.
	var waiting bytes.Buffer
	cmd := sandbox.Command(t, root, nil, append(away, config.Env...), append(slices.Clone(config.Entrypoint), config.Cmd...)...)
	cmd.Stdout, cmd.Stderr = &waiting, &waiting
	require.NoError(t, cmd.Start())
	time.AfterFunc(2*time.Second, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	require.NoError(t, cmd.Wait(), "%s", &waiting)
	require.Contains(t, waiting.String(), "/var/lib/vodrelay/vodrelay.db: read-only file system")

	out, err := command(away, []sandbox.Mount{volume}, "drain", "--for", "1s")
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 4, exit.ExitCode(), out)
	require.Contains(t, out, "+08:00", "the time zones are there")
	require.FileExists(t, filepath.Join(volume.From, "vodrelay.db"), "the store is on the volume")
	run([]sandbox.Mount{volume}, "parcels", "list")
}
