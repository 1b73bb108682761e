"""Clients of different libraries in one encrypted room (../README.md): python together.py BASE_URL RUN

This is the host: it makes the room and invites the guests, who are programs of their own."""

import asyncio

from nio import EnableEncryptionBuilder, RoomPreset

from accounts import register
from harness import User, bodies, done, new_client, run, until

GUESTS = ("js", "rust")
GUEST_TIMEOUT_S = 30


async def registered(client, user_id):
    """Waits until the user exists."""
    async with asyncio.timeout(GUEST_TIMEOUT_S):
        while (await client.get_profile(user_id)).transport_response.status != 200:
            await asyncio.sleep(0.1)


async def together(score, homeserver, tag):
    """The host's part of the scenario."""
    async with score.step("register"):
        client = new_client(homeserver, f"nio-{tag}")
        await done(register(client, f"nio-{tag}"), "registration")
        user = User(client)
        await user.start()
        _, server_name = user.id.split(":", 1)
        guests = [f"@{guest}-{tag}:{server_name}" for guest in GUESTS]
        for guest in guests:
            await registered(client, guest)

    async with score.step("meet in an encrypted room"):
        encryption = EnableEncryptionBuilder().as_dict()
        created = client.room_create(preset=RoomPreset.private_chat, invite=guests, initial_state=[encryption])
        room_id = (await done(created, "createRoom")).room_id
        await until("the room", lambda: room_id in client.rooms)
        await until("the guests", lambda: set(guests) <= set(client.rooms[room_id].users))
        await user.meet_devices(room_id, guests)

    async with score.step("encrypted messages from and to everybody"):
        await user.say(room_id, bodies("from nio", 10))
        for guest, name in zip(guests, GUESTS):
            await user.expect_to_hear(room_id, guest, f"from {name}", bodies(f"from {name}", 10))


if __name__ == "__main__":
    run(together)
