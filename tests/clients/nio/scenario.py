"""The client scenario (../README.md) with matrix-nio: python scenario.py http://127.0.0.1:8008"""

import asyncio
import logging
import os
import secrets
import sys
import traceback

from accounts import log_out, meet, sign_up
from harness import Score, Wrong, fail
from history import encryption, gap
from talk import messages, relations, signals

SCENARIO_TIMEOUT_S = 300


async def scenario(score, homeserver):
    """All steps in order."""
    run = secrets.token_hex(4)
    a, b = await sign_up(score, homeserver, (f"a-{run}", f"b-{run}"))
    room_id = await meet(score, a, b, f"room {run}")
    await messages(score, a, b, room_id)
    await relations(score, a, b, room_id)
    await signals(score, a, b, room_id)
    await encryption(score, a, b)
    await gap(score, a, b, room_id)
    await log_out(score, homeserver, a, b)


async def play(score, homeserver):
    """The scenario within its time."""
    async with asyncio.timeout(SCENARIO_TIMEOUT_S):
        await scenario(score, homeserver)


def main():
    """Plays the scenario; the exit code is 0 only when every step passed."""
    homeserver = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("HOMESERVER_URL")
    if not homeserver:
        sys.exit("usage: python scenario.py BASE_URL (or HOMESERVER_URL)")
    logging.basicConfig(level=logging.DEBUG if os.environ.get("DEBUG") else logging.CRITICAL)
    score = Score()
    failed = 0
    try:
        asyncio.run(play(score, homeserver))
    except Wrong as wrong:
        fail(str(wrong))
        failed = 1
    except TimeoutError:
        fail(f"the scenario has not ended after {SCENARIO_TIMEOUT_S} s")
        failed = 1
    except Exception:  # Whatever the client trips over is a failure of the run, with its trace.
        fail(traceback.format_exc())
        failed = 1
    print(f"{score.passed} passed, {failed} failed", flush=True)
    # A client left open by a failure must not keep the program from ending.
    os._exit(failed)


if __name__ == "__main__":
    main()
