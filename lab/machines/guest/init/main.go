// init is the first process of a machine's kernel. It loads the modules that the disk needs, mounts
// the disk, and hands over to systemd. A general initrd does the same in 15 to 36 s under emulation.
//
// With `lab.probe` on the kernel's command line it only says that the kernel runs, and ends it.
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	diskWithin = 30 * time.Second
	// lab/machines/qemu.py waits for this line.
	alive = "try-it-now: this kernel runs"
)

// The number of the system call, which package syscall has no name for.
const sysFinitModule = 313

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
		powerOff()
	}
}

func run() error {
	for _, kind := range []string{"proc", "devtmpfs"} {
		where := map[string]string{"proc": "/proc", "devtmpfs": "/dev"}[kind]
		if err := os.MkdirAll(where, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(kind, where, kind, 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", where, err)
		}
	}
	options, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	root := ""
	for _, word := range strings.Fields(string(options)) {
		if word == "lab.probe" {
			fmt.Println(alive)
			powerOff()
		}
		if value, found := strings.CutPrefix(word, "root="); found {
			root = value
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := waitFor(root); err != nil {
		return err
	}
	return handOver(root)
}

// loadModules loads the files that /modules/order names, in that order.
func loadModules() error {
	order, err := os.ReadFile("/modules/order")
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(order)) {
		file, err := os.Open("/modules/" + name)
		if err != nil {
			return err
		}
		none := []byte{0}
		_, _, failed := syscall.Syscall(
			sysFinitModule, file.Fd(), uintptr(unsafe.Pointer(&none[0])), 0)
		file.Close()
		if failed != 0 && failed != syscall.EEXIST {
			return fmt.Errorf("loading %s: %w", name, failed)
		}
	}
	return nil
}

// waitFor waits for a disk, which the kernel finds in its own time.
func waitFor(disk string) error {
	for deadline := time.Now().Add(diskWithin); time.Now().Before(deadline); {
		if _, err := os.Stat(disk); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("no disk %q after %s", disk, diskWithin)
}

// handOver makes the disk the root and becomes its init.
func handOver(disk string) error {
	if err := os.MkdirAll("/root", 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(disk, "/root", "ext4", 0, ""); err != nil {
		return fmt.Errorf("mounting %s: %w", disk, err)
	}
	// Their memory is of no more use.
	os.RemoveAll("/modules")
	os.Remove("/init")
	for _, path := range []string{"/dev", "/proc"} {
		if err := syscall.Mount(path, "/root"+path, "", syscall.MS_MOVE, ""); err != nil {
			return fmt.Errorf("moving %s: %w", path, err)
		}
	}
	if err := syscall.Chdir("/root"); err != nil {
		return err
	}
	if err := syscall.Mount(".", "/", "", syscall.MS_MOVE, ""); err != nil {
		return fmt.Errorf("moving the disk to /: %w", err)
	}
	if err := syscall.Chroot("."); err != nil {
		return err
	}
	return syscall.Exec("/sbin/init", []string{"/sbin/init"}, []string{"TERM=linux"})
}

func powerOff() {
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
