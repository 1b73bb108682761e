"""The first and the last steps: registration, login, membership of a room, logout."""

import json

from nio import RoomPreset

from harness import User, check, done, new_client, refused, same, until

PASSWORD = "correct horse battery staple"


async def register(client, username):
    """Registers through user-interactive auth: the first answer names the flow, the second request completes it."""
    # nio itself names the flow in its first request, so the request that is to be challenged is sent as it is.
    request = json.dumps({"username": username, "password": PASSWORD})
    challenge = await client.send("POST", "/_matrix/client/v3/register", request, {"Content-Type": "application/json"})
    session = None
    if challenge.status == 401:
        offer = await challenge.json()
        check({"stages": ["m.login.dummy"]} in offer["flows"], f"no m.login.dummy in {offer}")
        session = offer["session"]
    return await client.register(username, PASSWORD, "nio", session)


async def expect_dead(homeserver, token, what):
    """Checks that the token is known to be dead."""
    client = new_client(homeserver)
    client.access_token = token
    same(await refused(client.whoami(), what), (401, "M_UNKNOWN_TOKEN"), what)
    await client.close()


async def sign_up(score, homeserver, names):
    """Registers both, logs b in again by password; returns both users, syncing."""
    client_a, client_b = [new_client(homeserver, name) for name in names]

    async with score.step("register"):
        for client, name in zip((client_a, client_b), names):
            await done(register(client, name), "registration")
            same((await done(client.whoami(), "whoami")).user_id, client.user_id, "whoami")
        stranger = new_client(homeserver)
        taken = await refused(register(stranger, names[0]), "a user name in use")
        same(taken, (400, "M_USER_IN_USE"), "a user name in use")
        await stranger.close()

    async with score.step("log in"):
        client = new_client(homeserver, names[1])
        wrong = await refused(client.login("wrong", "nio"), "a wrong password")
        same(wrong, (403, "M_FORBIDDEN"), "a wrong password")
        await done(client.login(PASSWORD, "nio"), "login")
        check(client.device_id != client_b.device_id, "the login gave the device of the registration")
        token = client_b.access_token
        await done(client_b.logout(), "logout")
        await expect_dead(homeserver, token, "the token of a logged-out device")
        await client_b.close()
        a, b = User(client_a), User(client)
        await a.start()
        await b.start()
    return a, b


async def meet(score, a, b, name):
    """a makes a room and invites b, who joins; returns the room's id."""
    async with score.step("create room"):
        created = a.client.room_create(preset=RoomPreset.private_chat, name=name)
        room_id = (await done(created, "createRoom")).room_id
        await until("the room in a's sync", lambda: room_id in a.client.rooms and a.client.rooms[room_id].name == name)

    async with score.step("invite"):
        await done(a.client.room_invite(room_id, b.id), "invite")
        room = await until("the invite in b's sync", lambda: b.client.invited_rooms.get(room_id))
        same(room.inviter, a.id, "who invited b")

    async with score.step("join"):
        await done(b.client.join(room_id), "join")
        await until("the room in b's sync", lambda: room_id in b.client.rooms)
        await until("b's membership in a's sync", lambda: b.id in a.client.rooms[room_id].users)
        same(b.client.rooms[room_id].name, name, "the room's name as b sees it")
    return room_id


async def log_out(score, homeserver, a, b):
    """Ends both sessions; each logout ends its own and no other."""
    async with score.step("log out"):
        await a.stop()
        await b.stop()
        token_a, token_b = a.client.access_token, b.client.access_token
        await done(a.client.logout(), "logout")
        await expect_dead(homeserver, token_a, "a's token after logout")
        same((await done(b.client.whoami(), "whoami")).user_id, b.id, "whoami of b after a's logout")
        await done(b.client.logout(), "logout")
        await expect_dead(homeserver, token_b, "b's token after logout")
