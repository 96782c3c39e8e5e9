// What bench-loop does with Torsade, with Go, on one processor unless there are threads: loop TABLE SIZE prints the CPU time of
// a unit in nanoseconds and the peak memory in KiB. Counts its callbacks, and checks that none came early.
package main

import (
	"fmt"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var draws uint64 = 1

// A linear congruential generator (Knuth's MMIX), as in timers.rs.
func draw() uint64 {
	draws = draws*6364136223846793005 + 1442695040888963407
	return draws >> 33
}

func demand(holds bool, what string) {
	if !holds {
		fmt.Fprintln(os.Stderr, what)
		os.Exit(1)
	}
}

func ran() int64 {
	var usage syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func report(before int64, units int) {
	reportCost(float64(ran()-before) / float64(units))
}

func reportCost(cost float64) {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Println(cost, strings.Fields(rest)[0])
}

func longDelay() time.Duration {
	return 30*time.Second + time.Duration(draw()%30_000_000)*time.Microsecond
}

func cancels(pending int, atOnce bool) {
	const units = 500_000
	queue := make([]*time.Timer, pending)
	for i := range queue {
		queue[i] = time.AfterFunc(longDelay(), func() {})
	}
	before := ran()
	for i := 0; i < units; i++ {
		timer := time.AfterFunc(longDelay(), func() {})
		if atOnce {
			demand(timer.Stop(), "it was pending")
		} else {
			demand(queue[i%pending].Stop(), "it was pending")
			queue[i%pending] = timer
		}
	}
	report(before, units)
}

func fires(count int) {
	window := uint64(100_000)
	if count >= 1_000_000 {
		window = 1_000_000
	}
	done := make(chan struct{})
	var made atomic.Int64
	before := ran()
	for i := 0; i < count; i++ {
		delay := time.Duration(draw()%window) * time.Microsecond
		deadline := time.Now().Add(delay)
		time.AfterFunc(delay, func() {
			demand(!time.Now().Before(deadline), "a timer came early")
			if made.Add(1) == int64(count) {
				close(done)
			}
		})
	}
	<-done
	report(before, count)
}

// A thousand goroutines, and the others' turn until all have run.
func soon(units int, captures bool) {
	made := 0
	call := func() { made++ }
	thing, number := &struct{ number int }{1}, 1
	put := func() {
		if !captures {
			go call()
			return
		}
		thing, number := thing, number
		go func() {
			demand(thing.number == number, "it has what it was made with")
			made++
		}()
	}
	batch := func() {
		until := made + 1000
		for i := 0; i < 1000; i++ {
			put()
		}
		for made < until {
			runtime.Gosched()
		}
	}
	batch()
	before := ran()
	for i := 0; i < units/1000; i++ {
		batch()
	}
	demand(made == units+1000, "each is called once")
	report(before, units)
}

// Functions through a channel, from goroutines that have a processor each. Go's channels are bounded: who posts
// waits while this one is full. (Room for all would be dearer.)
func fromThreads(count int) {
	runtime.GOMAXPROCS(count + 1)
	each := 1_000_000 / count
	made := 0
	calls := make(chan func(), 1024)
	before := ran()
	for i := 0; i < count; i++ {
		go func() {
			for number := 0; number < each; number++ {
				number := number
				calls <- func() {
					demand(number < each, "it brings what it was posted with")
					made++
				}
			}
		}()
	}
	for i := 0; i < each*count; i++ {
		(<-calls)()
	}
	demand(made == each*count, "each is called once")
	report(before, each*count)
}

// By the wall clock, from the post to the call. Who posts is a thread of its own, and waits for the call: if it spun,
// the goroutine that it wakes would stay in its processor's queue.
func latency(awake bool) {
	const posts = 2000
	runtime.GOMAXPROCS(2)
	if awake {
		go func() {
			for {
				runtime.Gosched()
			}
		}()
	}
	heard := make(chan struct{}, 1)
	took := make([]time.Duration, 0, posts)
	calls := make(chan func(), 1)
	go func() {
		runtime.LockOSThread()
		for posted := 0; posted < posts; posted++ {
			for until := time.Now().Add(50 * time.Microsecond); time.Now().Before(until); {
			}
			when := time.Now()
			calls <- func() {
				took = append(took, time.Since(when))
				heard <- struct{}{}
			}
			<-heard
		}
	}()
	for i := 0; i < posts; i++ {
		(<-calls)()
	}
	warm := took[posts/10:]
	sort.Slice(warm, func(i, j int) bool { return warm[i] < warm[j] })
	reportCost(float64(warm[len(warm)/2]))
}

func main() {
	runtime.GOMAXPROCS(1)
	size, _ := strconv.Atoi(os.Args[2])
	switch os.Args[1] {
	case "call_soon":
		soon(1_000_000, false)
	case "call_soon_capturing":
		soon(1_000_000, true)
	case "call_from_thread":
		fromThreads(size)
	case "latency":
		latency(size == 1)
	case "timers_cancel":
		cancels(size, true)
	case "timers_replace":
		cancels(size, false)
	case "timers_fire":
		fires(size)
	default:
		demand(false, "there is no such table")
	}
}
