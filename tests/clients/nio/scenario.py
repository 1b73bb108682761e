"""The client scenario (../README.md) with matrix-nio: python scenario.py http://127.0.0.1:8008"""

import secrets

from accounts import log_out, meet, sign_up
from harness import run
from history import encryption, gap
from talk import messages, relations, signals

async def scenario(score, homeserver):
    """All steps in order."""
    tag = secrets.token_hex(4)
    a, b = await sign_up(score, homeserver, (f"a-{tag}", f"b-{tag}"))
    room_id = await meet(score, a, b, f"room {tag}")
    await messages(score, a, b, room_id)
    await relations(score, a, b, room_id)
    await signals(score, a, b, room_id)
    await encryption(score, a, b)
    await gap(score, a, b, room_id)
    await log_out(score, homeserver, a, b)


if __name__ == "__main__":
    run(scenario)
