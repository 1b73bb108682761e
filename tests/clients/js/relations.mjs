// Events that refer to others (reply, edit, reaction, redaction), and what is said beside the timeline (typing, receipts).
import { check, same, step, until } from "./harness.mjs";

export async function relations({ a, b, roomId }) {
  const [target] = await a.say(roomId, ["to be answered"]);
  const seen = (user, eventId) => until(eventId, () => user.room(roomId).findEventById(eventId));
  await seen(b, target);

  await step("reply", async () => {
    const { event_id: reply } = await b.client.sendMessage(roomId, {
      msgtype: "m.text",
      body: "an answer",
      "m.relates_to": { "m.in_reply_to": { event_id: target } },
    });
    const event = await seen(a, reply);
    same([event.replyEventId, event.getContent().body], [target, "an answer"], "the reply as a sees it");
  });

  await step("edit", async () => {
    const edited = { msgtype: "m.text", body: "edited" };
    const { event_id: edit } = await a.client.sendMessage(roomId, {
      msgtype: "m.text",
      body: "* edited",
      "m.new_content": edited,
      "m.relates_to": { rel_type: "m.replace", event_id: target },
    });
    const event = await seen(b, target);
    await until("the edit at b", () => event.replacingEventId() === edit);
    same(event.getContent(), edited, "the edited message as b sees it");
  });

  await step("reaction", async () => {
    const { event_id: reaction } = await b.client.sendEvent(roomId, "m.reaction", {
      "m.relates_to": { rel_type: "m.annotation", event_id: target, key: "👍" },
    });
    const annotations = () =>
      a.room(roomId).relations.getChildEventsForEvent(target, "m.annotation", "m.reaction")?.getSortedAnnotationsByKey();
    const [[key, events]] = await until("the reaction at a", () => annotations()?.length && annotations());
    same([key, [...events].map((e) => e.getId())], ["👍", [reaction]], "the reactions as a sees them");
  });

  await step("redaction", async () => {
    const [doomed] = await a.say(roomId, ["to be taken back"]);
    const event = await seen(b, doomed);
    await a.client.redactEvent(roomId, doomed, undefined, { reason: "a slip" });
    await until("the redaction at b", () => event.isRedacted());
    const stored = await b.client.fetchRoomEvent(roomId, doomed);
    same(stored.content, {}, "the content of the redacted event");
    const because = stored.unsigned?.redacted_because;
    check(because?.sender === a.id, `redacted_because: ${JSON.stringify(stored.unsigned)}`);
    same(because.content.reason, "a slip", "the reason of the redaction");
  });
}

export async function signals({ a, b, roomId }) {
  await step("typing", async () => {
    const typing = () => b.room(roomId).getMember(a.id).typing;
    await a.client.sendTyping(roomId, true, 20_000);
    await until("a's typing at b", typing);
    await a.client.sendTyping(roomId, false, 0);
    await until("the end of a's typing at b", () => !typing());
  });

  await step("receipts", async () => {
    const [read] = await a.say(roomId, ["to be read"]);
    const event = await until("the message at b", () => b.room(roomId).findEventById(read));
    await b.client.sendReadReceipt(event);
    const receipt = () => a.room(roomId).getReadReceiptForUserId(b.id, true);
    await until("b's receipt at a", () => receipt()?.eventId === read);
    check(receipt().data.ts > 0, "the receipt has no time");
  });
}
