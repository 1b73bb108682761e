// The client scenario (../README.md) with matrix-js-sdk: node scenario.mjs http://127.0.0.1:8008
import "./polyfill.mjs";
import { randomBytes } from "node:crypto";
import { createClient } from "matrix-js-sdk";
import { User, bodies, check, fail, finish, refused, same, step, until } from "./harness.mjs";
import { encryption, gap } from "./history.mjs";
import { relations, signals } from "./relations.mjs";

const SCENARIO_TIMEOUT_MS = 300_000;
const PASSWORD = "correct horse battery staple";

const baseUrl = process.argv[2] ?? process.env.HOMESERVER_URL;
if (!baseUrl) {
  process.stderr.write("usage: node scenario.mjs BASE_URL (or HOMESERVER_URL)\n");
  process.exit(2);
}
setTimeout(() => fail(`the scenario has not ended after ${SCENARIO_TIMEOUT_MS} ms`), SCENARIO_TIMEOUT_MS).unref();
process.on("unhandledRejection", (error) => fail(`unhandled: ${error?.stack ?? error}`));

const run = randomBytes(4).toString("hex");
const anonymous = createClient({ baseUrl });

/** Registers through user-interactive auth: the first answer names the flow, the second request completes it. */
async function register(username) {
  const request = { username, password: PASSWORD, initial_device_display_name: "js" };
  const challenge = await refused(anonymous.registerRequest(request), "registration without auth");
  if (challenge.httpStatus !== 401) throw challenge;
  check(
    challenge.data.flows.some((flow) => flow.stages.join() === "m.login.dummy"),
    `no m.login.dummy in ${JSON.stringify(challenge.data.flows)}`,
  );
  return anonymous.registerRequest({ ...request, auth: { type: "m.login.dummy", session: challenge.data.session } });
}

function login(username, password) {
  return anonymous.loginRequest({
    type: "m.login.password",
    identifier: { type: "m.id.user", user: username },
    password,
    initial_device_display_name: "js",
  });
}

async function expectDeadToken(token, what) {
  const client = createClient({ baseUrl, accessToken: token });
  const error = await refused(client.whoami(), what);
  same([error.httpStatus, error.errcode], [401, "M_UNKNOWN_TOKEN"], what);
}

let a;
let b;
let roomId;

await step("register", async () => {
  const [sessionA, sessionB] = [await register(`a-${run}`), await register(`b-${run}`)];
  a = new User(baseUrl, sessionA);
  b = new User(baseUrl, sessionB);
  same((await a.client.whoami()).user_id, a.id, "whoami");
  const taken = await refused(register(`a-${run}`), "a user name in use");
  same(taken.errcode, "M_USER_IN_USE", "error for a user name in use");
});

await step("log in", async () => {
  const wrong = await refused(login(`b-${run}`, "wrong"), "a wrong password");
  same([wrong.httpStatus, wrong.errcode], [403, "M_FORBIDDEN"], "a wrong password");
  const registered = b;
  b = new User(baseUrl, await login(`b-${run}`, PASSWORD));
  check(b.device !== registered.device, "the login gave the device of the registration");
  await registered.client.logout();
  await expectDeadToken(registered.token, "the token of a logged-out device");
  await Promise.all([a.start(), b.start()]);
});

await step("create room", async () => {
  ({ room_id: roomId } = await a.client.createRoom({ preset: "private_chat", name: `room ${run}` }));
  await until("the room in a's sync", () => a.room(roomId)?.name === `room ${run}`);
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
  same(b.room(roomId).name, `room ${run}`, "the room's name as b sees it");
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
await gap({ a, b, roomId });

await step("log out", async () => {
  await a.client.logout(true);
  await expectDeadToken(a.token, "a's token after logout");
  same((await b.client.whoami()).user_id, b.id, "whoami of b after a's logout");
  await b.client.logout(true);
  await expectDeadToken(b.token, "b's token after logout");
});

finish(0);
