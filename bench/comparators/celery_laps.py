"""Laps of no-op tasks through Celery and Redis, on request.

    celery_laps.py REDIS_URL default|tuned

Starts a worker, says `ready`, and answers each line `N` on its input with a line of JSON: how long N tasks took
from the first submission until the worker was through with the last, while it ran all the time. Ends with its
input. `default` is what Celery does unless it is told otherwise, with Redis as the result backend. `tuned` is what
Celery's guide to optimizing says about many short tasks: no results, a large prefetch, and none of the chatter
between workers.
"""

import json
import os
import subprocess
import sys
import time

from celery import Celery

# The worker imports this file as a module, with arguments of its own.
if __name__ == "__main__":
    os.environ.update(LAPS_URL=sys.argv[1], LAPS_KIND=sys.argv[2])
url, kind = os.environ["LAPS_URL"], os.environ["LAPS_KIND"]
tuned = kind == "tuned"
app = Celery("celery_laps", broker=url, backend=None if tuned else url)
app.conf.broker_connection_retry_on_startup = True
if tuned:
    app.conf.task_ignore_result = True
    app.conf.worker_prefetch_multiplier = 128


@app.task(name="noop")
def noop():
    pass


def results(redis):
    """Keys of results."""
    return sum(1 for _ in redis.scan_iter("celery-task-meta-*", count=10000))


def lap(redis, tasks):
    """Submits so many tasks and waits until all are done; gives seconds."""
    if not tuned:
        for key in redis.scan_iter("celery-task-meta-*", count=10000):
            redis.delete(key)
        keys = redis.dbsize()
    began = time.monotonic()
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(tasks):
            noop.apply_async(producer=producer)
    # Results are keys of their own; without them a message is gone once the worker has run its task.
    while redis.llen("celery") or redis.hlen("unacked") or not (tuned or redis.dbsize() >= keys + tasks):
        if time.monotonic() - began > 600:
            raise SystemExit("the tasks take longer than ten minutes")
        time.sleep(0.005)
    seconds = time.monotonic() - began
    if not tuned and results(redis) != tasks:
        raise SystemExit(f"{results(redis)} results of {tasks} tasks")
    return {"seconds": seconds}


def main():
    import redis as client

    redis = client.Redis.from_url(url)
    chatter = ["--without-gossip", "--without-mingle", "--without-heartbeat"] if tuned else []
    command = [sys.executable, "-m", "celery", "-A", "celery_laps", "worker", *chatter]
    worker = subprocess.Popen([*command, "--loglevel", "WARNING"], cwd=sys.path[0], stdout=sys.stderr)
    try:
        lap(redis, 100)
        print("ready", flush=True)
        for line in sys.stdin:
            print(json.dumps(lap(redis, int(line))), flush=True)
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    main()
