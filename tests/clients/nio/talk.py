"""The steps in a room that both have joined: messages, relations, what is said beside the timeline."""

import asyncio

from nio import ReceiptEvent, TypingNoticeEvent

from harness import bodies, check, done, same, until


async def messages(score, a, b, room_id):
    """Both send at the same time; each hears all of the other, and of itself."""
    async with score.step("100 messages each way"):
        from_a, from_b = bodies("from a", 100), bodies("from b", 100)
        await asyncio.gather(a.say(room_id, from_a), b.say(room_id, from_b))
        await b.expect_to_hear(room_id, a.id, "from a", from_a)
        await a.expect_to_hear(room_id, b.id, "from b", from_b)
        await a.expect_to_hear(room_id, a.id, "from a", from_a)


async def relations(score, a, b, room_id):
    """Events that refer to others: reply, edit, reaction, redaction."""
    [target] = await a.say(room_id, ["to be answered"])

    async with score.step("reply"):
        answer = {"msgtype": "m.text", "body": "an answer", "m.relates_to": {"m.in_reply_to": {"event_id": target}}}
        reply = await b.send(room_id, "m.room.message", answer)
        same((await a.see(room_id, reply))["content"], answer, "the reply as a sees it")

    async with score.step("edit"):
        edit = {
            "msgtype": "m.text",
            "body": "* edited",
            "m.new_content": {"msgtype": "m.text", "body": "edited"},
            "m.relates_to": {"rel_type": "m.replace", "event_id": target},
        }
        edit_id = await a.send(room_id, "m.room.message", edit)
        same((await b.see(room_id, edit_id))["content"], edit, "the edit as b sees it")

    async with score.step("reaction"):
        reaction = {"m.relates_to": {"rel_type": "m.annotation", "event_id": target, "key": "👍"}}
        reaction_id = await b.send(room_id, "m.reaction", reaction)
        same((await a.see(room_id, reaction_id))["content"], reaction, "the reaction as a sees it")

    async with score.step("redaction"):
        [doomed] = await a.say(room_id, ["to be taken back"])
        await b.see(room_id, doomed)
        redaction = await done(a.client.room_redact(room_id, doomed, "a slip"), "redact")
        seen = await b.see(room_id, redaction.event_id)
        # Room version 11 moved `redacts` into the content; servers keep it at both places for clients.
        same(seen.get("redacts") or seen["content"].get("redacts"), doomed, "what the redaction names")
        stored = (await done(b.client.room_get_event(room_id, doomed), "the redacted event")).event.source
        same(stored["content"], {}, "the content of the redacted event")
        because = stored["unsigned"]["redacted_because"]
        same((because["sender"], because["content"]["reason"]), (a.id, "a slip"), "redacted_because")


async def signals(score, a, b, room_id):
    """What does not go into the timeline: typing and receipts."""
    async with score.step("typing"):

        def typing():
            seen = [e.users for room, e in b.ephemeral if room == room_id and isinstance(e, TypingNoticeEvent)]
            return seen[-1] if seen else None

        await done(a.client.room_typing(room_id, True, 20_000), "typing")
        await until("a's typing at b", lambda: typing() == [a.id])
        await done(a.client.room_typing(room_id, False), "no typing")
        await until("the end of a's typing at b", lambda: typing() == [])

    async with score.step("receipts"):
        [read] = await a.say(room_id, ["to be read"])
        await b.see(room_id, read)
        await done(b.client.update_receipt_marker(room_id, read), "receipt")

        def receipt():
            events = [e for room, e in a.ephemeral if room == room_id and isinstance(e, ReceiptEvent)]
            found = [r for e in events for r in e.receipts if r.event_id == read]
            return next((r for r in found if r.user_id == b.id), None)

        seen = await until("b's receipt at a", receipt)
        same((seen.receipt_type, seen.thread_id), ("m.read", "main"), "the receipt as a sees it")
        check(seen.timestamp > 0, "the receipt has no time")
