// Command workload is what the end-to-end tests and the demo run in containers: an image with one program and no shell.
//
//	workload work [-for D] [-exit N] [-linger D] [-every D]   call the ledger with the token of LEDGER_TOKEN_FILE, and say what it answers
//	workload ask [TOKEN]                                      call it once, with this token if one is given
//	workload cat FILE                                         print a file
//	workload fill FILE                                        write a file of 8 MiB
//	workload stat FILE                                        print a file's mode, owner and group
//	workload crash                                            make the container's `work` end at once, with status 3
//	workload ledger                                           the relying party: serve, and ask the verifier about each caller's token
package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const filling = 8 << 20

func main() {
	if len(os.Args) < 2 {
		work(nil)
		return
	}
	arguments := os.Args[2:]
	switch os.Args[1] {
	case "work":
		work(arguments)
	case "ask":
		if len(arguments) > 0 {
			fmt.Println(present(arguments[0]))
		} else {
			fmt.Println(ask())
		}
	case "cat":
		content, err := os.ReadFile(arguments[0])
		exitOn(err)
		os.Stdout.Write(content)
	case "stat":
		stat(arguments[0])
	case "fill":
		exitOn(os.WriteFile(arguments[0], make([]byte, filling), 0o600))
	case "crash":
		exitOn(syscall.Kill(1, syscall.SIGUSR1))
	case "ledger":
		exitOn(ledger())
	default:
		exitOn(fmt.Errorf("no such command: %s", os.Args[1]))
	}
}

// work calls the ledger until its time is over or it is told to end; then it lingers, as a slow program would.
func work(arguments []string) {
	flags := flag.NewFlagSet("work", flag.ExitOnError)
	duration := flags.Duration("for", 0, "end by itself after this time; 0: never")
	status := flags.Int("exit", 0, "status to end with by itself")
	linger := flags.Duration("linger", 0, "how long it takes to end once it is told to")
	every := flags.Duration("every", time.Second, "time between two calls")
	exitOn(flags.Parse(arguments))
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT)
	crash := make(chan os.Signal, 1)
	signal.Notify(crash, syscall.SIGUSR1)
	var over <-chan time.Time
	if *duration > 0 {
		over = time.After(*duration)
	}
	fmt.Println("working")
	for {
		if os.Getenv("LEDGER_URL") != "" {
			fmt.Println(ask())
		}
		select {
		case <-told:
			end := time.Now().Add(*linger)
			for time.Now().Before(end) {
				fmt.Println("ending", ask())
				time.Sleep(min(*every, time.Until(end)))
			}
			return
		case <-crash:
			os.Exit(3)
		case <-over:
			os.Exit(*status)
		case <-time.After(*every):
		}
	}
}

// ask calls LEDGER_URL with the token of the file named by LEDGER_TOKEN_FILE, read anew as a kubelet rotates it.
func ask() string {
	token, err := os.ReadFile(os.Getenv("LEDGER_TOKEN_FILE"))
	if err != nil {
		return "no token: " + err.Error()
	}
	return present(string(token))
}

// present calls LEDGER_URL with a token; it gives the status and the body, or what went wrong.
func present(token string) string {
	request, err := http.NewRequest(http.MethodGet, os.Getenv("LEDGER_URL"), nil)
	if err != nil {
		return err.Error()
	}
	request.Header.Set("Authorization", "Bearer "+token)
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d %s", answer.StatusCode, strings.TrimSpace(string(body)))
}

func stat(path string) {
	info, err := os.Stat(path)
	exitOn(err)
	owner, _ := info.Sys().(*syscall.Stat_t)
	fmt.Printf("%o %d %d\n", info.Mode().Perm(), owner.Uid, owner.Gid)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
