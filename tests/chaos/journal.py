"""Journal of every change of a task's row and of its author, written by a PostgreSQL trigger.

Each process of a world reports its name to PostgreSQL (PGAPPNAME), so that a change by the worker that holds the row
can be distinguished from one by another worker.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tests.chaos.servers import Postgres

TRIGGER = """
CREATE TABLE chaos_log (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), task uuid,
    old_status text, status text, old_attempt int, attempt int, lost_workers int, phase text, step int, worker text,
    cancel_requested bool, writer text
);
CREATE FUNCTION chaos_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos_log (task, old_status, status, old_attempt, attempt, lost_workers, phase, step, worker,
                           cancel_requested, writer)
    VALUES (NEW.id, CASE TG_OP WHEN 'UPDATE' THEN OLD.status ELSE '' END, NEW.status,
            CASE TG_OP WHEN 'UPDATE' THEN OLD.attempt ELSE 0 END, NEW.attempt, NEW.lost_workers, NEW.phase, NEW.step,
            NEW.worker, NEW.cancel_requested_at IS NOT NULL, current_setting('application_name'));
    RETURN NEW;
END $$;
CREATE TRIGGER chaos AFTER INSERT OR UPDATE ON tasks_app_task FOR EACH ROW EXECUTE FUNCTION chaos_write();
"""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One change of one row."""

    seq: int
    at: datetime
    task: UUID
    old_status: str
    status: str
    old_attempt: int
    attempt: int
    lost_workers: int
    phase: str
    step: int
    worker: str
    cancel_requested: bool
    writer: str

    @property
    def is_claim(self) -> bool:
        """Return whether a worker claimed the task."""
        return self.attempt > self.old_attempt

    @property
    def ends_attempt(self) -> bool:
        """Return whether this change ended the run that held the row."""
        return self.old_status == "running" and self.status != "running"


def install_trigger(postgres: Postgres) -> None:
    """Create the trigger, so that PostgreSQL writes the journal from now on."""
    postgres.fetch_rows(TRIGGER)


def read_entries(postgres: Postgres) -> list[Entry]:
    """Return the journal in the order of writing."""
    return [Entry(**row) for row in postgres.fetch_rows("SELECT * FROM chaos_log ORDER BY seq")]
