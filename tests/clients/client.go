// client API MAILBOX receives one message and prints it; with a FILE behind, it sends that as one message.
// client many MAILBOX N blocks N goroutines, prints how many of them hold no thread, and then what each received.
// client deadline MAILBOX lets a read's deadline pass on an empty mailbox, and then receives.
// Nothing but Go's own packages.
package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const enough = 2 << 20

var receive = map[string]func(path string) []byte{
	"readFile": func(path string) []byte { return must(os.ReadFile(path)) },
	"readAll": func(path string) []byte {
		file := must(os.Open(path))
		defer file.Close()
		return must(io.ReadAll(file))
	},
	"read": func(path string) []byte {
		file := must(os.Open(path))
		defer file.Close()
		buffer := make([]byte, enough)
		return buffer[:must(file.Read(buffer))]
	},
	"stream": func(path string) []byte {
		file := must(os.OpenFile(path, os.O_RDWR, 0))
		defer file.Close()
		buffer := make([]byte, enough)
		return buffer[:must(file.Read(buffer))]
	},
	"readLine": func(path string) []byte {
		file := must(os.Open(path))
		defer file.Close()
		return must(bufio.NewReader(file).ReadBytes('\n'))
	},
	"scanner": func(path string) []byte {
		file := must(os.Open(path))
		defer file.Close()
		var lines bytes.Buffer
		for scanner := bufio.NewScanner(file); scanner.Scan(); {
			fmt.Fprintln(&lines, scanner.Text())
		}
		return lines.Bytes()
	},
	"copy": func(path string) []byte {
		file := must(os.Open(path))
		defer file.Close()
		must(io.Copy(os.Stdout, file))
		return nil
	},
}

var send = map[string]func(path string, text []byte){
	"writeFile": func(path string, text []byte) {
		check(os.WriteFile(path, text, 0o644))
	},
	"write": func(path string, text []byte) {
		file := must(os.OpenFile(path, os.O_WRONLY, 0))
		must(file.Write(text))
		check(file.Close())
	},
	"append": func(path string, text []byte) {
		file := must(os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0))
		must(file.Write(text))
		check(file.Close())
	},
	"stream": func(path string, text []byte) {
		file := must(os.OpenFile(path, os.O_RDWR, 0))
		must(file.Write(text))
		check(file.Close())
	},
	"bufio": func(path string, text []byte) {
		file := must(os.Create(path))
		writer := bufio.NewWriterSize(file, enough)
		for _, line := range bytes.SplitAfter(text, []byte("\n")) {
			must(writer.Write(line))
		}
		check(writer.Flush())
		check(file.Close())
	},
	"fprint": func(path string, text []byte) {
		file := must(os.Create(path))
		must(fmt.Fprint(file, string(text)))
		check(file.Close())
	},
}

func main() {
	api, path := os.Args[1], os.Args[2]
	switch {
	case api == "deadline":
		must(os.Stdout.Write(deadline(path)))
	case api == "many":
		many(path, must(strconv.Atoi(os.Args[3])))
	case len(os.Args) > 3:
		send[api](path, must(os.ReadFile(os.Args[3])))
	default:
		must(os.Stdout.Write(receive[api](path)))
	}
}

func deadline(path string) []byte {
	file := must(os.Open(path))
	defer file.Close()
	check(file.SetReadDeadline(time.Now().Add(50 * time.Millisecond)))
	buffer := make([]byte, enough)
	if _, err := file.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
		panic(fmt.Sprint("no deadline: ", err))
	}
	check(file.SetReadDeadline(time.Time{}))
	fmt.Fprintln(os.Stderr, "passed")
	return buffer[:must(file.Read(buffer))]
}

func many(path string, count int) {
	var done sync.WaitGroup
	got := make(chan string, count)
	for range make([]struct{}, count) {
		done.Add(1)
		go func() {
			defer done.Done()
			file := must(os.Open(path))
			defer file.Close()
			got <- string(must(io.ReadAll(file)))
		}()
	}
	// A goroutine in "IO wait" holds no thread, as one in "syscall" would.
	stacks := make([]byte, 64<<20)
	waiting := 0
	for patience := 0; waiting < count && patience < 3000; patience++ {
		time.Sleep(10 * time.Millisecond)
		waiting = strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "[IO wait")
	}
	fmt.Println(waiting)
	done.Wait()
	close(got)
	for message := range got {
		fmt.Print(message)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
