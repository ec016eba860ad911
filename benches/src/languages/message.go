// Sends and receives COUNT messages of SIZE bytes by way of PATH, as a file. Prints the microseconds that one takes.
package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

var kind, path = os.Args[1], os.Args[2]
var message, buffer []byte

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func receive() []byte {
	if kind != "fifo" {
		got, err := os.ReadFile(path)
		must(err)
		return got
	}
	file, err := os.Open(path)
	must(err)
	defer file.Close()
	_, err = io.ReadFull(file, buffer)
	must(err)
	return buffer
}

func many(count int) float64 {
	start := time.Now()
	for i := 0; i < count; i++ {
		must(os.WriteFile(path, message, 0o600))
		if !bytes.Equal(receive(), message) {
			panic("another message")
		}
	}
	return float64(time.Since(start).Nanoseconds()) / 1e3 / float64(count)
}

func main() {
	count, err := strconv.Atoi(os.Args[3])
	must(err)
	size, err := strconv.Atoi(os.Args[4])
	must(err)
	message, buffer = bytes.Repeat([]byte("m"), size), make([]byte, size)
	if kind == "fifo" {
		// A FIFO is lost when nobody has it open, and has no end while somebody has.
		held, err := os.OpenFile(path, os.O_RDWR, 0)
		must(err)
		defer held.Close()
	}
	many(count/10 + 1)
	fmt.Println(many(count))
}
