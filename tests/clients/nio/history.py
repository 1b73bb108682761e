"""An encrypted room, and a gap of 200 messages that is closed by paging back."""

from nio import EnableEncryptionBuilder, RoomPreset

from harness import SYNC_LIMIT, bodies, check, done, same, texts, until

# More than the room can have; a server that pages in circles is caught.
PAGES_MAX = 100


async def encryption(score, a, b):
    """An encrypted room whose messages the other side reads, both ways."""
    async with score.step("encrypted room"):
        created = a.client.room_create(
            preset=RoomPreset.private_chat, invite=[b.id], initial_state=[EnableEncryptionBuilder().as_dict()]
        )
        room_id = (await done(created, "createRoom")).room_id
        await until("the invite at b", lambda: room_id in b.client.invited_rooms)
        await done(b.client.join(room_id), "join")
        for user in (a, b):
            room = await until("the room", lambda: user.client.rooms.get(room_id))
            await until("both members", lambda: {a.id, b.id} <= set(room.users))
            await until("the room's encryption", lambda: room.encrypted)
        await a.meet_devices(room_id, [b.id])
        await b.meet_devices(room_id, [a.id])

    async with score.step("encrypted messages each way"):
        from_a, from_b = bodies("secret a", 10), bodies("secret b", 10)
        first, *_ = await a.say(room_id, from_a)
        await b.expect_to_hear(room_id, a.id, "secret a", from_a)
        await b.say(room_id, from_b)
        await a.expect_to_hear(room_id, b.id, "secret b", from_b)
        stored = await done(b.client.room_get_event(room_id, first), "the event on the server")
        # nio decrypts what it fetches, and marks what it had to decrypt.
        check(stored.event.decrypted, "the event is not encrypted on the server")


async def page_back(client, room_id, token):
    """All events before the token, the newest first, page by page to the start of the room."""
    events = []
    for _ in range(PAGES_MAX):
        page = await done(client.room_messages(room_id, token, limit=30), "messages")
        events += [event.source for event in page.chunk]
        if page.end is None:
            return events
        token = page.end
    check(False, f"no start of the room within {PAGES_MAX} pages")


async def gap(score, a, b, room_id):
    """b misses 200 messages, gets the last of them by a limited sync and the others by paging back."""
    missed = bodies("missed", 200)

    async with score.step("gap of 200 messages"):
        await b.stop()
        await a.say(room_id, missed)
        await b.start()
        await until("the last missed message", lambda: missed[-1] in texts(b.timeline(room_id), a.id, "missed"))
        live = b.timeline(room_id)
        heard = texts(live, a.id, "missed")
        check(len(heard) <= SYNC_LIMIT, f"sync was not limited: {len(heard)} messages")
        same(heard, missed[-len(heard) :], "the messages of the limited sync")
        tokens = [token for room, token in b.limited if room == room_id]
        same(len(tokens), 1, "the number of limited timelines")

    async with score.step("page back to the first message"):
        older = (await page_back(b.client, room_id, tokens[0]))[::-1]
        same(older[0]["type"], "m.room.create", "the first event")
        events = older + live
        same(len({event["event_id"] for event in events}), len(events), "the number of different events")
        same(texts(events, a.id, "missed"), missed, "the missed messages in the whole history")
        same(texts(events, a.id, "from a"), bodies("from a", 100), "a's messages in the whole history")
        same(texts(events, b.id, "from b"), bodies("from b", 100), "b's messages in the whole history")
