// Asks or answers questions through a segment. The other side may be in any language. See examples/README.md.
//
//	go run exchange.go ask|answer MOUNTPOINT NAME WORD...
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

func check(err error) {
	if err != nil && err != io.EOF {
		log.Fatal(err)
	}
}

func open(path string, flags int) *os.File {
	file, err := os.OpenFile(path, flags, 0o600)
	check(err)
	return file
}

func text(place []byte) string { return string(place[:bytes.IndexByte(place, 0)]) }

func main() {
	if len(os.Args) < 5 {
		log.Fatal("usage: exchange ask|answer MOUNTPOINT NAME WORD...")
	}
	role, mountpoint, name := os.Args[1], os.Args[2], os.Args[3]
	segment := open(mountpoint+"/segments/"+name, os.O_RDWR|os.O_CREATE)
	check(segment.Truncate(4096))
	memory, err := syscall.Mmap(int(segment.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	check(err)
	asked, answered := (*uint32)(unsafe.Pointer(&memory[0])), (*uint32)(unsafe.Pointer(&memory[4]))
	question, answer := memory[64:2048], memory[2048:]
	notify := open(mountpoint+"/control/segments/"+name+"/notify", os.O_WRONLY)
	wait := open(mountpoint+"/control/segments/"+name+"/wait", os.O_RDONLY)
	ring := func() { _, err := notify.WriteString("\n"); check(err) }
	sleep := func() { _, err := wait.Read(make([]byte, 32)); check(err) }

	for _, word := range os.Args[4:] {
		if role == "ask" {
			copy(question, word+"\x00")
			number := atomic.AddUint32(asked, 1)
			ring()
			for atomic.LoadUint32(answered) != number {
				sleep()
			}
			fmt.Println(text(answer))
		} else {
			for atomic.LoadUint32(answered) == atomic.LoadUint32(asked) {
				sleep()
			}
			copy(answer, text(question)+" "+word+"\x00")
			atomic.StoreUint32(answered, atomic.LoadUint32(asked))
			ring()
		}
	}
}
