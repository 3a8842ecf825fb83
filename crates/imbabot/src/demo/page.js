// The demo's page: shows the simulated chat as it changes, and what the daemon is about to say.
// Foreign text is only ever set as textContent.

const $ = (id) => document.getElementById(id);
const rooms = new Map();
const messages = new Map();
let chosen = null;
let opened = 0;

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString();
const post = (path, body = {}) =>
  fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

function showRooms() {
  const list = [...rooms.values()].sort((a, b) => b.id - a.id);
  $("rooms").replaceChildren(...list.map((room) => {
    const count = (messages.get(room.id) ?? []).length;
    const button = element("button", { type: "button" },
      element("span", { textContent: room.name, className: room.deleted_at ? "gone" : "" }),
      element("small", { textContent: `  ${count || ""}` }));
    button.setAttribute("aria-current", String(room.id === chosen));
    button.addEventListener("click", () => choose(room.id));
    return element("li", {}, button);
  }));
}

function line(message, withRoom) {
  const who = element("span", { className: "who", textContent: message.user });
  const parts = [who];
  if (message.by_bot) parts.push(element("span", { className: "tag", textContent: "bot" }));
  const where = withRoom ? `  ${rooms.get(message.room)?.name ?? message.room}` : "";
  parts.push(element("small", { textContent: `  ${clock(message.time)}${where}` }));
  return element("li", { className: message.by_bot ? "bot" : "person" },
    element("div", {}, ...parts), element("div", { textContent: message.text }));
}

function showMessages() {
  const room = rooms.get(chosen);
  $("room-title").textContent = room?.name ?? "Choose a room";
  for (const part of $("post").elements) part.disabled = !room || Boolean(room.deleted_at);
  $("messages").replaceChildren(...(messages.get(chosen) ?? []).map((message) => line(message, false)));
  $("messages").scrollTop = $("messages").scrollHeight;
}

function choose(id) {
  chosen = id;
  showRooms();
  showMessages();
}

function showFeed() {
  const posted = [...messages.values()].flat().filter((message) => message.by_bot);
  posted.sort((a, b) => b.id - a.id);
  $("feed").replaceChildren(...posted.slice(0, 50).map((message) => line(message, true)));
}

function heard(message) {
  const list = messages.get(message.room) ?? [];
  if (list.some((known) => known.id === message.id)) return;
  messages.set(message.room, [...list, message]);
  if (message.by_bot) showFeed();
  showRooms();
  if (message.room === chosen) showMessages();
}

async function load() {
  const state = await (await fetch("control/state")).json();
  for (const room of state.rooms) rooms.set(room.id, room);
  showRooms();
  await Promise.all(state.rooms.map(async (room) => {
    if (!room.message_count) return;
    const body = await (await fetch(`control/rooms/${room.id}/messages`)).json();
    messages.set(room.id, Array.isArray(body) ? body : body.messages);
  }));
  const talked = (room) => (messages.get(room.id) ?? []).at(-1)?.id ?? 0;
  const liveliest = state.rooms.filter((room) => !room.deleted_at).sort((a, b) => talked(b) - talked(a))[0];
  if (chosen === null && liveliest) chosen = liveliest.id;
  showRooms();
  showMessages();
  showFeed();
}

async function status() {
  try {
    const state = await (await fetch("api/status")).json();
    const widget = Object.values(state.widgets)[0];
    $("state").className = state.ready ? "ready" : "waiting";
    $("state").textContent = state.ready
      ? `ready, ${widget?.rooms ?? 0} rooms in the last snapshot`
      : `not ready: ${state.reasons.join(", ")}`;
    const now = Date.now();
    $("next").replaceChildren(...state.next.slice(0, 6).map((next) => {
      const seconds = Math.max(0, Math.round((Date.parse(next.at_utc) - now) / 1000));
      const left = seconds < 120 ? `in ${seconds} s` : new Date(next.at_utc).toLocaleString();
      return element("li", {}, element("span", { textContent: next.schedule }),
        element("small", { textContent: `  ${left}` }));
    }));
  } catch {
    $("state").className = "waiting";
    $("state").textContent = "the daemon does not answer";
  }
}

$("open").addEventListener("click", async () => {
  opened += 1;
  const answer = await post("control/rooms", { name: `Your room ${opened}` });
  if (answer.ok) {
    const body = await answer.json();
    // The stream tells the room itself, before or after this.
    choose(body.room);
  }
});
$("post").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || chosen === null) return;
  $("text").value = "";
  await post(`control/rooms/${chosen}/post`, { user: "2", text });
});

const stream = new EventSource("control/events");
const on = (name, act) => stream.addEventListener(name, (event) => act(JSON.parse(event.data)));
on("room_opened", (room) => { rooms.set(room.id, room); showRooms(); if (room.id === chosen) showMessages(); });
on("room_changed", (room) => { rooms.set(room.id, room); showRooms(); if (room.id === chosen) showMessages(); });
on("message", heard);
on("lagged", load);
// Again whenever the stream was interrupted: what happened meanwhile is not told twice.
stream.addEventListener("open", load);
load();
status();
setInterval(status, 1000);
