"""What the steps of the scenario stand on: counting, waiting with a bound, and one listening user."""

import asyncio
import logging
import os
import sys
import time
import traceback
from contextlib import asynccontextmanager, suppress

from nio import AsyncClient, AsyncClientConfig, ErrorResponse, Event, EphemeralEvent, InviteEvent
from nio.store import SqliteMemoryStore

SCENARIO_TIMEOUT_S = 300
STEP_TIMEOUT_S = 60
WAIT_TIMEOUT_S = 30
POLL_S = 0.02
# How long to go on listening for what should not come.
SETTLE_S = 0.3
# Timeline events in one sync answer: fewer than the 200 missed messages, which are to be a gap; more than can be sent between
# two syncs of a client that listens.
SYNC_LIMIT = 100
SYNC_FILTER = {"room": {"timeline": {"limit": SYNC_LIMIT}}}


class Wrong(Exception):
    """The server, or the client on it, did something else than the scenario says."""


class Late(Wrong):
    """What was waited for has not come."""


class Score:
    """The steps passed so far."""

    def __init__(self):
        self.passed = 0

    @asynccontextmanager
    async def step(self, name):
        """Runs one step and prints its line; the first step that raises ends the program."""
        started = time.monotonic()
        try:
            async with asyncio.timeout(STEP_TIMEOUT_S):
                yield
        except TimeoutError as late:
            raise Wrong(f"{name}: the step has not ended after {STEP_TIMEOUT_S} s") from late
        except Wrong as wrong:
            raise Wrong(f"{name}: {wrong}") from wrong
        self.passed += 1
        print(f"ok   {name} ({(time.monotonic() - started) * 1000:.0f} ms)", flush=True)


def check(condition, message):
    """Raises with the message unless the condition holds."""
    if not condition:
        raise Wrong(message)


def same(actual, expected, what):
    """Raises unless both are equal, and shows both."""
    check(actual == expected, f"{what}: got {actual!r}, expected {expected!r}")


async def until(what, probe):
    """Polls until the probe gives something true, and returns it."""
    deadline = time.monotonic() + WAIT_TIMEOUT_S
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise Late(f"waited {WAIT_TIMEOUT_S} s for {what}")
        await asyncio.sleep(POLL_S)
    return found


async def done(request, what):
    """The answer to a request that must succeed (nio returns refusals as values)."""
    answer = await request
    check(not isinstance(answer, ErrorResponse), f"{what}: {answer}")
    return answer


async def refused(request, what):
    """The HTTP status and the Matrix error code of a request that must be refused."""
    answer = await request
    check(isinstance(answer, ErrorResponse), f"{what} was not refused: {answer}")
    return answer.transport_response.status, answer.status_code


def bodies(prefix, count):
    """The numbered bodies of one burst of messages."""
    return [f"{prefix} {number}" for number in range(1, count + 1)]


def texts(events, sender, prefix):
    """The bodies among raw events that the sender numbered with the prefix, in the events' order."""
    found = [
        event["content"].get("body", "")
        for event in events
        if event["sender"] == sender and event["type"] == "m.room.message"
    ]
    return [body for body in found if body.startswith(f"{prefix} ")]


def new_client(homeserver, user=""):
    """A client that keeps its keys in memory and gives up at once when the server is gone or refuses."""
    config = AsyncClientConfig(
        store=SqliteMemoryStore, encryption_enabled=True, max_timeouts=1, max_limit_exceeded=20, request_timeout=30
    )
    return AsyncClient(homeserver, user, config=config)


class User:
    """A logged-in user, and every event that sync delivered to it as (room id, decrypted source), repeats included."""

    def __init__(self, client):
        self.client = client
        self.id = client.user_id
        self.events = []
        self.ephemeral = []
        self.limited = set()
        self._loop = None
        client.add_event_callback(self._on_event, Event)
        client.add_event_callback(self._on_invite, InviteEvent)
        client.add_ephemeral_callback(self._on_ephemeral, EphemeralEvent)
        client.add_response_callback(self._on_response)

    async def _on_event(self, room, event):
        # The callback fires after decryption; an event that could not be decrypted keeps its encrypted type.
        self.events.append((room.room_id, event.source))

    async def _on_invite(self, room, event):
        self.events.append((room.room_id, event.source))

    async def _on_ephemeral(self, room, event):
        self.ephemeral.append((room.room_id, event))

    async def _on_response(self, response):
        rooms = getattr(response, "rooms", None)
        for room_id, info in getattr(rooms, "join", {}).items():
            if info.timeline.limited:
                self.limited.add((room_id, info.timeline.prev_batch))

    async def start(self):
        """Syncs on, from where this client stopped."""
        self._loop = asyncio.create_task(self.client.sync_forever(timeout=10_000, sync_filter=SYNC_FILTER))
        first = asyncio.create_task(self.client.synced.wait())
        await asyncio.wait({self._loop, first}, return_when=asyncio.FIRST_COMPLETED)
        self.alive()

    def alive(self):
        """Raises what ended the sync loop, if something did."""
        if self._loop.done():
            self._loop.result()

    async def stop(self):
        """Stops syncing; what was delivered so far is forgotten."""
        self._loop.cancel()
        with suppress(asyncio.CancelledError):
            await self._loop
        self.events.clear()
        self.limited.clear()

    def timeline(self, room_id):
        """The raw events that sync delivered in the room."""
        return [source for room, source in self.events if room == room_id]

    async def see(self, room_id, event_id):
        """Waits for the event and returns its raw form."""

        def find():
            self.alive()
            return next((e for e in self.timeline(room_id) if e.get("event_id") == event_id), None)

        return await until(f"{event_id} at {self.id}", find)

    async def send(self, room_id, event_type, content):
        """Sends one event and returns its id."""
        sent = self.client.room_send(room_id, event_type, content, ignore_unverified_devices=True)
        return (await done(sent, f"sending {event_type}")).event_id

    async def meet_devices(self, room_id, others):
        """Waits until nio knows the members of an encrypted room and their devices.

        Otherwise it asks for them with the first message, and trips when its sync loop asks at the same time."""
        await done(self.client.joined_members(room_id), "members")
        store = self.client.device_store
        await until(
            f"the others' devices at {self.id}",
            lambda: all(store[other] for other in others) and not self.client.should_query_keys,
        )

    async def say(self, room_id, bodies_to_send):
        """Sends texts one after the other, each when the one before is acknowledged; returns the event ids."""
        return [
            await self.send(room_id, "m.room.message", {"msgtype": "m.text", "body": body}) for body in bodies_to_send
        ]

    async def expect_to_hear(self, room_id, sender, prefix, expected):
        """Waits for all the texts and a moment longer, then compares: in order, exactly once."""

        def heard():
            self.alive()
            return texts(self.timeline(room_id), sender, prefix)

        # What was heard says more than that the wait was in vain.
        with suppress(Late):
            await until("all of them", lambda: len(heard()) >= len(expected))
        await asyncio.sleep(SETTLE_S)
        same(heard(), expected, f"messages '{prefix}' as {self.id} received them")


def fail(message):
    """Says what was wrong."""
    print(f"FAIL {message}", file=sys.stderr, flush=True)


async def _play(scenario, score, homeserver, arguments):
    """The scenario within its time."""
    async with asyncio.timeout(SCENARIO_TIMEOUT_S):
        await scenario(score, homeserver, *arguments)


def run(scenario):
    """Plays scenario(score, homeserver, argument...) as this program; the exit code is 0 only when every step passed."""
    homeserver, *arguments = sys.argv[1:] or [os.environ.get("HOMESERVER_URL")]
    if not homeserver:
        sys.exit(f"usage: python {sys.argv[0]} BASE_URL (or HOMESERVER_URL)")
    logging.basicConfig(level=logging.DEBUG if os.environ.get("DEBUG") else logging.CRITICAL)
    score = Score()
    failed = 1
    try:
        asyncio.run(_play(scenario, score, homeserver, arguments))
        failed = 0
    except Wrong as wrong:
        fail(str(wrong))
    except TimeoutError:
        fail(f"the scenario has not ended after {SCENARIO_TIMEOUT_S} s")
    except Exception:  # Whatever the client trips over is a failure of the run, with its trace.
        fail(traceback.format_exc())
    print(f"{score.passed} passed, {failed} failed", flush=True)
    # A client left open by a failure must not keep the program from ending.
    os._exit(failed)
