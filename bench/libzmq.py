"""libzmq through pyzmq: a ROUTER that binds and DEALERs that connect, as raw messages without a call.

Each DEALER has a thread of libzmq's own proxy, which sends every message back where it came from: no Python runs for a
reply. The ROUTER's loop is Python, which bounds the client at some microseconds for each call.

pyzmq's guide says for speed: large messages without a copy. libzmq sets TCP_NODELAY itself. Its high-water marks are
off, since a ROUTER drops messages above them.
"""

import json
import os
import sys
import threading
import time

import zmq

LARGE = 65536


def main():
    part, cpus, endpoint, in_flight, workers, size, warm_up, seconds = sys.argv[1:]
    os.sched_setaffinity(0, {int(cpu) for cpu in cpus.split(",")})
    if part == "server":
        serve(endpoint, int(workers))
    else:
        call(int(in_flight), int(workers), int(size), float(warm_up), float(seconds))
    # The process ends with its parent.
    while sys.stdin.readline():
        pass
    os._exit(0)


def serve(endpoint, workers):
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, workers + 16)
    for _ in range(workers):
        threading.Thread(target=bounce, args=(context, endpoint), daemon=True).start()


def bounce(context, endpoint):
    dealer = socket(context, zmq.DEALER)
    dealer.connect(endpoint)
    # A ROUTER knows a peer only once it has sent a message.
    dealer.send(b"")
    zmq.proxy(dealer, dealer)


def call(in_flight, workers, size, warm_up, seconds):
    router = socket(zmq.Context(), zmq.ROUTER)
    router.bind("tcp://127.0.0.1:0")
    say("ready " + router.getsockopt_string(zmq.LAST_ENDPOINT))
    dealers = [router.recv_multipart()[0] for _ in range(workers)]
    windows = dealers * (in_flight // workers)
    measure(router, windows, size, warm_up)
    say("warm")
    sys.stdin.readline()
    say(json.dumps(measure(router, windows, size, seconds)))


def measure(router, windows, size, seconds):
    """Keeps the windows full for some seconds, and reports as a client of the benchmark does."""
    payload, latencies, calls = b"x" * size, [], 0
    copy, is_sequential, clock = size < LARGE, len(windows) == 1, time.perf_counter
    start = before = clock()
    for dealer in windows:
        router.send_multipart([dealer, payload], copy=copy)
    while before - start < seconds:
        dealer = receive(router, size, copy)
        now = clock()
        if is_sequential:
            latencies.append(now - before)
        before = now
        calls += 1
        router.send_multipart([dealer, payload], copy=copy)
    for _ in windows:
        receive(router, size, copy)
        calls += 1
    seconds = clock() - start
    latencies.sort()
    quantile = lambda q: latencies[int(len(latencies) * q)] * 1e6 if latencies else None
    return {"calls": calls, "seconds": seconds, "p50_us": quantile(0.5), "p99_us": quantile(0.99)}


def receive(router, size, copy):
    """Reads a reply, and returns whose it is."""
    dealer, reply = router.recv_multipart(copy=copy)
    if len(reply) != size:
        raise ValueError(f"a reply of {len(reply)} bytes instead of {size}")
    return dealer


def socket(context, kind):
    made = context.socket(kind)
    made.set_hwm(0)
    made.linger = 0
    return made


def say(line):
    print(line, flush=True)


main()
