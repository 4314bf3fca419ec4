// Command kubelet-api serves what the API server asks a kubelet for `kubectl logs` and `kubectl exec`.
//
// It knows nothing of Pods itself: for each request it reads what ../kubelet_api.py wrote about that Pod.
// One process serves all nodes of a lab, since all of them are on this machine.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

const (
	idleTimeout = 4 * time.Hour // a kubelet's --streaming-connection-idle-timeout
	drainWithin = time.Second   // for a last screenful, once its command has ended
)

// pod is one file that ../kubelet_api.py writes.
type pod struct {
	UID        string
	Containers map[string]container
}

type container struct {
	Enter  []string // what a command is appended to; nothing where the container does not run
	Env    []string
	Log    string
	Offset int64 // where in the log this Pod begins: it goes on over Pods
}

// api answers from the files in a directory.
type api struct{ pods string }

func main() {
	address := flag.String("address", "", "host:port to listen on")
	pods := flag.String("pods", "", "directory with a file for each Pod")
	certificate := flag.String("certificate", "", "certificate to serve with")
	key := flag.String("key", "", "its key")
	authority := flag.String("client-ca", "", "who signs the certificates of those who may ask")
	flag.Parse()

	pem, err := os.ReadFile(*authority)
	if err != nil {
		log.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(pem)
	server := http.Server{
		Addr:      *address,
		Handler:   api{*pods}.handler(),
		TLSConfig: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients},
	}
	log.Fatal(server.ListenAndServeTLS(*certificate, *key))
}

func (a api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", a.logs)
	mux.HandleFunc("/exec/{namespace}/{pod}/{container}", a.exec)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		text := "The lab serves logs and exec of a kubelet only: there is no " + r.URL.Path
		http.Error(w, text, http.StatusNotImplemented)
	})
	return mux
}

// find is the Pod and container that a request names; it has answered where there is none.
func (a api) find(w http.ResponseWriter, r *http.Request) (string, pod, container, bool) {
	file := filepath.Join(a.pods, r.PathValue("namespace")+"_"+r.PathValue("pod")+".json")
	asked, err := read(file)
	if err != nil {
		http.Error(w, fmt.Sprintf("pod %q does not exist", r.PathValue("pod")), http.StatusNotFound)
		return "", pod{}, container{}, false
	}
	found, ok := asked.Containers[r.PathValue("container")]
	if !ok {
		text := fmt.Sprintf("container %q not found in pod %q", r.PathValue("container"), r.PathValue("pod"))
		http.Error(w, text, http.StatusNotFound)
	}
	return file, asked, found, ok
}

func read(file string) (pod, error) {
	var found pod
	text, err := os.ReadFile(file)
	if err != nil {
		return found, err
	}
	return found, json.Unmarshal(text, &found)
}

// logs prints what a container wrote, and with `follow` what it writes until its Pod ends.
func (a api) logs(w http.ResponseWriter, r *http.Request) {
	file, asked, found, ok := a.find(w, r)
	if !ok {
		return
	}
	name, query := r.PathValue("container"), r.URL.Query()
	if query.Get("previous") == "true" {
		text := fmt.Sprintf("previous terminated container %q in pod %q not found", name, r.PathValue("pod"))
		http.Error(w, text, http.StatusBadRequest)
		return
	}
	stream := query.Get("stream")
	if query.Has("timestamps") || query.Has("sinceSeconds") || query.Has("sinceTime") ||
		(stream != "" && stream != "All") {
		text := "The lab keeps neither the time nor the stream of what a container writes."
		http.Error(w, text, http.StatusBadRequest)
		return
	}
	source, err := os.Open(found.Log)
	if err != nil {
		http.Error(w, fmt.Sprintf("container %q has no log yet", name), http.StatusBadRequest)
		return
	}
	defer source.Close()
	events, err := watch(r.Context(), found.Log, filepath.Dir(file))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer events.Close()
	written, err := io.ReadAll(io.NewSectionReader(source, found.Offset, math.MaxInt64-found.Offset))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	from := found.Offset
	if count, err := strconv.Atoi(query.Get("tailLines")); err == nil {
		from += int64(lastLines(written, count))
	}
	limit, err := strconv.ParseInt(query.Get("limitBytes"), 10, 64)
	if err != nil {
		limit = math.MaxInt64
	}
	if _, err := source.Seek(from, io.SeekStart); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	left := &io.LimitedReader{R: source, N: limit}
	for follow := query.Get("follow") == "true"; ; {
		// Looked at before the log: what it wrote last is printed too.
		now, err := read(file)
		runs := err == nil && now.UID == asked.UID && len(now.Containers[name].Enter) > 0
		if _, err := io.Copy(w, left); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		if !follow || !runs || left.N == 0 {
			return
		}
		if _, err := events.Read(make([]byte, 64*1024)); err != nil {
			return
		}
	}
}

// watch can be read each time that the log grows or the file of a Pod changes, until the request ends.
func watch(ctx context.Context, logFile, pods string) (*os.File, error) {
	number, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	events := os.NewFile(uintptr(number), "inotify")
	context.AfterFunc(ctx, func() { events.Close() })
	_, first := syscall.InotifyAddWatch(number, logFile, syscall.IN_MODIFY)
	_, second := syscall.InotifyAddWatch(number, pods, syscall.IN_MOVED_TO|syscall.IN_DELETE)
	return events, errors.Join(first, second)
}

// lastLines is where the last lines of a text begin.
func lastLines(text []byte, count int) int {
	if count == 0 {
		return len(text)
	}
	at := len(bytes.TrimSuffix(text, []byte("\n")))
	for ; count > 0 && at >= 0; count-- {
		at = bytes.LastIndexByte(text[:at], '\n')
	}
	return at + 1
}

// exec runs a command beside a container's own.
func (a api) exec(w http.ResponseWriter, r *http.Request) {
	_, _, found, ok := a.find(w, r)
	if !ok {
		return
	}
	name := r.PathValue("container")
	if len(found.Enter) == 0 {
		http.Error(w, fmt.Sprintf("container not found (%q)", name), http.StatusNotFound)
		return
	}
	options, err := remotecommand.NewOptions(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	command := r.URL.Query()["command"]
	log.Printf("exec in %s/%s/%s: %q", r.PathValue("namespace"), r.PathValue("pod"), name, command)
	remotecommand.ServeExec(w, r, found, r.PathValue("pod"), "", name, command, options, idleTimeout,
		remotecommand.DefaultStreamCreationTimeout, remotecommand.SupportedStreamingProtocols)
}

// ExecInContainer is what ServeExec asks for, once it has the streams.
//
// As with a real kubelet a command is not killed when nobody listens any more: it finds its input
// ended and its output closed.
func (c container) ExecInContainer(_ context.Context, _, _, _ string, argv []string,
	in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize,
	_ time.Duration) error {
	argv = slices.Concat(c.Enter, argv)
	command := exec.Command(argv[0], argv[1:]...)
	command.Env = c.Env
	var failed error
	if tty {
		command.Env = append(command.Env, "TERM=xterm") // as container runtimes do
		failed = inTerminal(command, in, out, resize)
	} else {
		command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		failed = withPipes(command, in, out, err)
	}
	var exit *exec.ExitError
	if !errors.As(failed, &exit) {
		return failed
	}
	code := exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return utilexec.CodeExitError{Err: failed, Code: code}
}

func withPipes(command *exec.Cmd, in io.Reader, out, err io.Writer) error {
	command.Stdout, command.Stderr = out, err
	if in != nil {
		// Not command.Stdin: Wait would wait for the end of the input too.
		stdin, err := command.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			io.Copy(stdin, in)
			stdin.Close()
		}()
	}
	return command.Run()
}

func inTerminal(command *exec.Cmd, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	terminal, end, err := openTerminal()
	if err != nil {
		return err
	}
	defer terminal.Close()
	command.Stdin, command.Stdout, command.Stderr = end, end, end
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = command.Start()
	end.Close()
	if err != nil {
		return err
	}
	go func() {
		for size := range resize {
			control(terminal, func(number int) error {
				wanted := &unix.Winsize{Row: size.Height, Col: size.Width}
				return unix.IoctlSetWinsize(number, unix.TIOCSWINSZ, wanted)
			})
		}
	}()
	if in != nil {
		go func() {
			io.Copy(terminal, in)
			terminal.Close() // whoever typed is gone: hang up
		}()
	}
	shown := make(chan struct{})
	go func() {
		io.Copy(out, terminal) // to its error: that is how a terminal ends
		close(shown)
	}()
	err = command.Wait()
	// What it left in the background may hold the terminal open for long.
	terminal.SetReadDeadline(time.Now().Add(drainWithin))
	<-shown
	return err
}

// openTerminal makes a terminal, and the end of it that a command gets.
func openTerminal() (terminal, end *os.File, err error) {
	if terminal, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0); err != nil {
		return nil, nil, err
	}
	err = control(terminal, func(number int) error {
		if err := unix.IoctlSetPointerInt(number, unix.TIOCSPTLCK, 0); err != nil {
			return err
		}
		name, err := unix.IoctlGetInt(number, unix.TIOCGPTN)
		if err != nil {
			return err
		}
		end, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", name), os.O_RDWR|unix.O_NOCTTY, 0)
		return err
	})
	if err != nil {
		terminal.Close()
	}
	return terminal, end, err
}

// control lends a file's number. Its Fd() would make reads of it block, beyond deadlines and Close.
func control(file *os.File, use func(number int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(number uintptr) { failed = use(int(number)) })
	return errors.Join(err, failed)
}
