// Clients of different libraries in one encrypted room (../README.md): node together.mjs BASE_URL RUN
// This is a guest: it waits for the host's invite.
import { register } from "./accounts.mjs";
import { User, bodies, finish, run, step, until } from "./harness.mjs";

const OTHERS = ["nio", "rust"];

const { baseUrl, rest: [tag] } = run();
let user;
let room;
let others;

await step("register", async () => {
  user = new User(baseUrl, await register(baseUrl, `js-${tag}`));
  await user.start();
  const serverName = user.id.slice(user.id.indexOf(":") + 1);
  others = OTHERS.map((name) => ({ name, id: `@${name}-${tag}:${serverName}` }));
});

await step("meet in an encrypted room", async () => {
  room = await until("the invite", () => user.client.getRooms().find((r) => r.getMyMembership() === "invite"));
  await user.client.joinRoom(room.roomId);
  const joined = ({ id }) => room.getMember(id)?.membership === "join";
  await until("the others", () => others.every(joined));
  await until("the room's encryption", () => room.hasEncryptionStateEvent());
});

await step("encrypted messages from and to everybody", async () => {
  const hear = ({ name, id }) => user.expectToHear(room.roomId, id, `from ${name}`, bodies(`from ${name}`, 10));
  const [nio, rust] = others;
  await hear(nio);
  await user.say(room.roomId, bodies("from js", 10));
  await hear(rust);
});

finish(0);
