"""Laps of no-op tasks through Airflow's scheduler, on request.

    airflow_laps.py default|tuned TASKS
    postgres.sh airflow_laps.py tuned TASKS

Starts a scheduler, says `ready`, and answers each line on its input with a line of JSON: how long one run of a DAG of
so many mapped tasks took by Airflow's own record, from the start of its first task until the end of its last. Ends with
its input. `default` is what Airflow does unless it is told otherwise: SQLite, and one task at a time, each in a new
interpreter. `tuned` is what its guides to production and to tuning the scheduler say: PostgreSQL, tasks in processes
forked from the scheduler's, limits that let as many run as there are processes, a scheduler that does not rest, and
DAG files that are not read over and over.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

# Airflow reads this file as the file of the DAG, too.
if __name__ != "__main__":
    from airflow.decorators import dag, task

    @dag(schedule=None)
    def laps():
        @task
        def noop(number):
            pass

        noop.expand(number=list(range(int(os.environ["LAPS_TASKS"]))))

    laps()

# Of 2, 8 and 32 the fastest on two cores.
PROCESSES = 8
TUNED = {
    "CORE__EXECUTOR": "LocalExecutor",
    "CORE__PARALLELISM": PROCESSES,
    "CORE__MAX_ACTIVE_TASKS_PER_DAG": PROCESSES,
    "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0,
    "SCHEDULER__MIN_FILE_PROCESS_INTERVAL": 3600,
    "SCHEDULER__PARSING_PROCESSES": 1,
}


def environment(home, tuned, tasks):
    """Where everything is, and what `tuned` changes."""
    settings = {
        "CORE__DAGS_FOLDER": f"{home}/dags",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
    }
    if tuned:
        settings |= TUNED
        user, host = os.environ["PGUSER"], os.environ["PGHOST"]
        settings["DATABASE__SQL_ALCHEMY_CONN"] = f"postgresql+psycopg2://{user}@/?host={host}"
    # Its default executor looks for the command `airflow`.
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    variables = {f"AIRFLOW__{name}": str(value) for name, value in settings.items()}
    return {"AIRFLOW_HOME": home, "LAPS_TASKS": tasks, "PATH": path} | variables


def lap(scheduler, number, tasks):
    """Runs the DAG once; gives seconds."""
    from airflow.api.common.trigger_dag import trigger_dag
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session

    run = f"lap-{number}"
    trigger_dag("laps", run_id=run)
    began = time.monotonic()
    while True:
        with create_session() as session:
            mine = session.query(TaskInstance).filter_by(dag_id="laps", run_id=run)
            ended = mine.filter(TaskInstance.end_date.is_not(None)).all()
        if len(ended) == tasks:
            break
        if scheduler.poll() is not None or time.monotonic() - began > 300:
            raise SystemExit("the scheduler has ended, or the tasks take longer than five minutes")
        time.sleep(0.5)
    if any(task.state != "success" or task.try_number != 1 for task in ended):
        raise SystemExit("not all tasks succeeded at their first attempt")
    first, last = min(task.start_date for task in ended), max(task.end_date for task in ended)
    return {"seconds": (last - first).total_seconds()}


def known():
    """Whether the scheduler has read the DAG."""
    from airflow.models.serialized_dag import SerializedDagModel

    return SerializedDagModel.has_dag("laps")


def main():
    kind, tasks = sys.argv[1:]
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(environment(home, kind == "tuned", tasks))
        os.mkdir(f"{home}/dags")
        shutil.copy(__file__, f"{home}/dags/laps.py")
        airflow = [sys.executable, "-m", "airflow"]
        subprocess.run([*airflow, "db", "migrate"], stdout=sys.stderr, check=True)
        scheduler = subprocess.Popen([*airflow, "scheduler", "--skip-serve-logs"], stdout=sys.stderr)
        try:
            began = time.monotonic()
            while not known():
                if scheduler.poll() is not None or time.monotonic() - began > 60:
                    raise SystemExit("the scheduler does not read the DAG")
                time.sleep(0.5)
            print("ready", flush=True)
            for number, _ in enumerate(sys.stdin):
                print(json.dumps(lap(scheduler, number, int(tasks))), flush=True)
        finally:
            scheduler.terminate()
            scheduler.wait()


if __name__ == "__main__":
    main()
