// An encrypted room, and a gap of 200 messages that is closed by paging back.
import { SYNC_LIMIT, bodies, check, same, step, until } from "./harness.mjs";

export async function encryption({ a, b }) {
  let roomId;

  await step("encrypted room", async () => {
    ({ room_id: roomId } = await a.client.createRoom({
      preset: "private_chat",
      invite: [b.id],
      initial_state: [{ type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }],
    }));
    await until("the invite at b", () => b.room(roomId)?.getMyMembership() === "invite");
    await b.client.joinRoom(roomId);
    await until("b's membership at a", () => a.room(roomId)?.getMember(b.id)?.membership === "join");
    await until("the room's state at b", () => b.room(roomId).hasEncryptionStateEvent());
    check(await a.client.getCrypto().isEncryptionEnabledInRoom(roomId), "a does not take the room for encrypted");
  });

  await step("encrypted messages each way", async () => {
    const [fromA, fromB] = [bodies("secret a", 10), bodies("secret b", 10)];
    const [first] = await a.say(roomId, fromA);
    await b.expectToHear(roomId, a.id, "secret a", fromA);
    await b.say(roomId, fromB);
    await a.expectToHear(roomId, b.id, "secret b", fromB);
    const stored = await b.client.fetchRoomEvent(roomId, first);
    same(stored.type, "m.room.encrypted", "the type of the event on the server");
  });
}

export async function gap({ a, b, roomId }) {
  const missed = bodies("missed", 200);

  await step("gap of 200 messages", async () => {
    await b.goOffline();
    await a.say(roomId, missed);
    await b.goOnline();
    await until("the last missed message", () => b.heard(roomId, a.id, "missed").includes("missed 200"));
    const live = b.heard(roomId, a.id, "missed");
    check(live.length <= SYNC_LIMIT, `sync was not limited: ${live.length} messages`);
    same(live, missed.slice(-live.length), "the messages of the limited sync");
  });

  await step("page back to the first message", async () => {
    const room = b.room(roomId);
    const pages = 100;
    let page = 0;
    while (room.oldState.paginationToken !== null) {
      check(page < pages, `no start of the room within ${pages} pages`);
      await b.client.scrollback(room, 30);
      page += 1;
    }
    const events = room.getLiveTimeline().getEvents();
    same(events[0].getType(), "m.room.create", "the first event");
    check(new Set(events.map((e) => e.getId())).size === events.length, "an event is repeated");
    const texts = (sender, prefix) =>
      events
        .filter((e) => e.getSender() === sender && e.getType() === "m.room.message")
        .map((e) => e.getContent().body)
        .filter((body) => body?.startsWith(`${prefix} `));
    same(texts(a.id, "missed"), missed, "the missed messages in the whole history");
    same(texts(a.id, "from a"), bodies("from a", 100), "a's messages in the whole history");
    same(texts(b.id, "from b"), bodies("from b", 100), "b's messages in the whole history");
  });
}
