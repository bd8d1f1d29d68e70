// Echo and broadcast on gorilla/websocket: `server PORT`. What a client sends to /echo comes back, what it sends to /broadcast goes to all there.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

var upgrader = websocket.Upgrader{ReadBufferSize: 4096, WriteBufferSize: 4096}

// A subscriber writes what comes through its channel, since only one goroutine may write to a connection.
var subscribers = struct {
	sync.Mutex
	channels map[chan *websocket.PreparedMessage]struct{}
}{channels: map[chan *websocket.PreparedMessage]struct{}{}}

func echo(w http.ResponseWriter, r *http.Request) {
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer socket.Close()
	for {
		kind, message, err := socket.ReadMessage()
		if err != nil || socket.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func broadcast(w http.ResponseWriter, r *http.Request) {
	socket, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer socket.Close()
	channel := make(chan *websocket.PreparedMessage, 256)
	subscribers.Lock()
	subscribers.channels[channel] = struct{}{}
	subscribers.Unlock()
	defer func() {
		subscribers.Lock()
		delete(subscribers.channels, channel)
		subscribers.Unlock()
		close(channel)
	}()
	go func() {
		for message := range channel {
			if socket.WritePreparedMessage(message) != nil {
				socket.Close()
			}
		}
	}()
	for {
		kind, bytes, err := socket.ReadMessage()
		if err != nil {
			return
		}
		message, err := websocket.NewPreparedMessage(kind, bytes)
		if err != nil {
			return
		}
		subscribers.Lock()
		for channel := range subscribers.channels {
			channel <- message
		}
		subscribers.Unlock()
	}
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		// There is no other record of the version of a package that is installed as sources.
		out, _ := exec.Command("dpkg-query", "--show", "--showformat=${Version}", "golang-github-gorilla-websocket-dev").Output()
		fmt.Printf("gorilla/websocket %s, %s\n", strings.TrimSpace(string(out)), runtime.Version())
		return
	}
	if len(os.Args) != 2 {
		log.Fatal("usage: server PORT")
	}
	http.HandleFunc("/echo", echo)
	http.HandleFunc("/broadcast", broadcast)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
