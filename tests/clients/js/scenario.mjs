// The client scenario (../README.md) with matrix-js-sdk: node scenario.mjs http://127.0.0.1:8008
import "./polyfill.mjs";
import { randomBytes } from "node:crypto";
import { expectDeadToken, login, register } from "./accounts.mjs";
import { User, bodies, check, finish, refused, run, same, step, until } from "./harness.mjs";
import { encryption, gap } from "./history.mjs";
import { relations, signals } from "./relations.mjs";
import { crossSigning } from "./signing.mjs";

const { baseUrl } = run();
const tag = randomBytes(4).toString("hex");

let a;
let b;
let roomId;

await step("register", async () => {
  const [sessionA, sessionB] = [await register(baseUrl, `a-${tag}`), await register(baseUrl, `b-${tag}`)];
  a = new User(baseUrl, sessionA);
  b = new User(baseUrl, sessionB);
  same((await a.client.whoami()).user_id, a.id, "whoami");
  const taken = await refused(register(baseUrl, `a-${tag}`), "a user name in use");
  same(taken.errcode, "M_USER_IN_USE", "error for a user name in use");
});

await step("log in", async () => {
  const wrong = await refused(login(baseUrl, `b-${tag}`, "wrong"), "a wrong password");
  same([wrong.httpStatus, wrong.errcode], [403, "M_FORBIDDEN"], "a wrong password");
  const registered = b;
  b = new User(baseUrl, await login(baseUrl, `b-${tag}`));
  check(b.device !== registered.device, "the login gave the device of the registration");
  await registered.client.logout();
  await expectDeadToken(baseUrl, registered.token, "the token of a logged-out device");
  await Promise.all([a.start(), b.start()]);
});

await step("create room", async () => {
  ({ room_id: roomId } = await a.client.createRoom({ preset: "private_chat", name: `room ${tag}` }));
  await until("the room in a's sync", () => a.room(roomId)?.name === `room ${tag}`);
});

await step("invite", async () => {
  await a.client.invite(roomId, b.id);
  const room = await until("the invite in b's sync", () => b.room(roomId));
  same(room.getMyMembership(), "invite", "b's membership");
  same(room.getDMInviter() ?? room.getMember(b.id).events.member.getSender(), a.id, "who invited b");
});

await step("join", async () => {
  await b.client.joinRoom(roomId);
  await until("b's membership in b's sync", () => b.room(roomId).getMyMembership() === "join");
  await until("b's membership in a's sync", () => a.room(roomId).getMember(b.id)?.membership === "join");
  same(b.room(roomId).name, `room ${tag}`, "the room's name as b sees it");
});

await step("100 messages each way", async () => {
  const [fromA, fromB] = [bodies("from a", 100), bodies("from b", 100)];
  await Promise.all([a.say(roomId, fromA), b.say(roomId, fromB)]);
  await b.expectToHear(roomId, a.id, "from a", fromA);
  await a.expectToHear(roomId, b.id, "from b", fromB);
  await a.expectToHear(roomId, a.id, "from a", fromA);
});

await relations({ a, b, roomId });
await signals({ a, b, roomId });
await encryption({ a, b });
await crossSigning({ a, b });
await gap({ a, b, roomId });

await step("log out", async () => {
  await a.client.logout(true);
  await expectDeadToken(baseUrl, a.token, "a's token after logout");
  same((await b.client.whoami()).user_id, b.id, "whoami of b after a's logout");
  await b.client.logout(true);
  await expectDeadToken(baseUrl, b.token, "b's token after logout");
});

finish(0);
