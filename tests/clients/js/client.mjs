// A Matrix client that a test drives: a JSON request per line on stdin, a JSON answer per line on stdout.
//
//   {"id": 1, "do": "register", "baseUrl": "http://...", "username": "alice", "password": "..."}
//   {"id": 1, "result": {"userId": "@alice:..."}}      or      {"id": 1, "error": {"errcode": "M_..."}}
//
// It is the SDK's MatrixClient with its real sync loop; encryption is never initialised.
import { createInterface } from "node:readline";

// The SDK logs to the console, which must not mix with the answers.
for (const level of ["log", "info", "debug", "trace"]) console[level] = console.error;

const major = Number(process.versions.node.split(".")[0]);
const sdk = await import(major >= 22 ? "matrix-js-sdk" : "matrix-js-sdk-node20");

let client;

function describe(event) {
    return {
        eventId: event.getId(),
        type: event.getType(),
        sender: event.getSender(),
        stateKey: event.getStateKey() ?? null,
        content: event.getContent(),
        redacted: event.isRedacted(),
    };
}

function look(room) {
    return (
        room && {
            membership: room.getMyMembership(),
            name: room.name,
            joined: room.getJoinedMemberCount(),
            unread: room.getUnreadNotificationCount("total"),
            highlights: room.getUnreadNotificationCount("highlight"),
            typing: room
                .getMembers()
                .filter((member) => member.typing)
                .map((member) => member.userId),
            tags: room.tags,
            fullyRead: room.getAccountData("m.fully_read")?.getContent().event_id ?? null,
            readBy: Object.fromEntries(
                room.getJoinedMembers().map((member) => [member.userId, room.getEventReadUpTo(member.userId, true)]),
            ),
        }
    );
}

function isIn(content, wanted) {
    return Object.entries(wanted).every(([key, value]) => JSON.stringify(content[key]) === JSON.stringify(value));
}

// Resolves with what `find` returns once it is truthy; asked again after each of the client's `events`.
function until(events, find, timeoutMs, what) {
    return new Promise((resolve, reject) => {
        const finish = (settle, value) => {
            clearTimeout(timer);
            for (const name of events) client.off(name, check);
            settle(value);
        };
        const check = () => {
            const found = find();
            if (found) finish(resolve, found);
        };
        const timer = setTimeout(() => finish(reject, new Error(`waited in vain for ${what}`)), timeoutMs);
        for (const name of events) client.on(name, check);
        check();
    });
}

const commands = {
    // Registers as a person's client does: ask for the flows first, then complete the dummy stage.
    async register({ baseUrl, username, password }) {
        const guest = sdk.createClient({ baseUrl });
        try {
            await guest.registerRequest({ username, password, inhibit_login: true });
        } catch (asked) {
            if (asked.httpStatus !== 401 || !asked.data?.flows) throw asked;
            const auth = { type: "m.login.dummy", session: asked.data.session };
            await guest.registerRequest({ username, password, inhibit_login: true, auth });
        }
        return {};
    },

    async login({ baseUrl, username, password }) {
        const guest = sdk.createClient({ baseUrl });
        const flows = await guest.loginFlows();
        const identifier = { type: "m.id.user", user: username };
        const answer = await guest.loginRequest({ type: "m.login.password", identifier, password });
        client = sdk.createClient({
            baseUrl,
            accessToken: answer.access_token,
            userId: answer.user_id,
            deviceId: answer.device_id,
        });
        return { userId: answer.user_id, deviceId: answer.device_id, flows: flows.flows };
    },

    async start({ lazyLoadMembers = true, timeoutMs = 30000 }) {
        await client.startClient({ initialSyncLimit: 20, lazyLoadMembers });
        return until(
            [sdk.ClientEvent.Sync],
            () => client.isInitialSyncComplete() && { state: client.getSyncState() },
            timeoutMs,
            "the first sync",
        );
    },

    // Any method of MatrixClient; rooms are answered by their ids.
    async call({ method, args = [] }) {
        const result = await client[method](...args);
        return result instanceof sdk.Room ? { roomId: result.roomId } : (result ?? null);
    },

    async waitForMembership({ roomId, membership, timeoutMs = 30000 }) {
        const events = [sdk.RoomEvent.MyMembership, sdk.ClientEvent.Room, sdk.ClientEvent.Sync];
        const find = () => client.getRoom(roomId)?.getMyMembership() === membership && { membership };
        return until(events, find, timeoutMs, `${membership} in ${roomId}`);
    },

    // The newest event in the room's live timeline of this type and sender whose content has these fields.
    async waitForEvent({ roomId, type = "m.room.message", sender, content = {}, timeoutMs = 30000 }) {
        const find = () => {
            const timeline = client.getRoom(roomId)?.getLiveTimeline().getEvents() ?? [];
            const found = timeline.findLast(
                (event) =>
                    event.getType() === type &&
                    event.status === null && // not a local echo
                    (!sender || event.getSender() === sender) &&
                    isIn(event.getContent(), content),
            );
            return found && describe(found);
        };
        return until([sdk.RoomEvent.Timeline, sdk.RoomEvent.LocalEchoUpdated], find, timeoutMs, `${type} in ${roomId}`);
    },

    async waitForRedaction({ roomId, eventId, timeoutMs = 30000 }) {
        const find = () => {
            const event = client.getRoom(roomId)?.findEventById(eventId);
            return event?.isRedacted() && describe(event);
        };
        return until([sdk.RoomEvent.Redaction, sdk.RoomEvent.Timeline], find, timeoutMs, `redaction of ${eventId}`);
    },

    // The room as the SDK sees it, once these parts of it (see `look`) have these values.
    async waitForRoom({ roomId, wanted, timeoutMs = 30000 }) {
        const events = [
            sdk.ClientEvent.Sync,
            sdk.RoomEvent.Receipt,
            sdk.RoomEvent.Tags,
            sdk.RoomEvent.AccountData,
            sdk.RoomMemberEvent.Typing,
            sdk.RoomStateEvent.Events,
        ];
        let last;
        const find = () => {
            last = look(client.getRoom(roomId));
            return last && isIn(last, wanted) && last;
        };
        return until(events, find, timeoutMs, `${JSON.stringify(wanted)} in ${roomId}`).catch((error) => {
            throw new Error(`${error.message}; it is ${JSON.stringify(last)}`);
        });
    },

    async waitForPresence({ userId, presence, timeoutMs = 30000 }) {
        const find = () => {
            const user = client.getUser(userId);
            return user?.presence === presence && { presence, status: user.presenceStatusMsg ?? null };
        };
        return until([sdk.UserEvent.Presence, sdk.ClientEvent.Sync], find, timeoutMs, `${presence} of ${userId}`);
    },

    async waitForAccountData({ type, content, timeoutMs = 30000 }) {
        const find = () => {
            const found = client.getAccountData(type)?.getContent();
            return found && isIn(found, content) && found;
        };
        return until([sdk.ClientEvent.AccountData, sdk.ClientEvent.Sync], find, timeoutMs, type);
    },

    async sendReceipt({ roomId, eventId, receiptType, unthreaded = false }) {
        const event = client.getRoom(roomId).findEventById(eventId);
        return client.sendReadReceipt(event, receiptType, unthreaded);
    },

    // Pages back until the beginning of the room; bodies of all messages, oldest first.
    async history({ roomId }) {
        const room = client.getRoom(roomId);
        while (room.oldState.paginationToken !== null) await client.scrollback(room, 8);
        const messages = room.getLiveTimeline().getEvents().filter((event) => event.getType() === "m.room.message");
        return messages.map((event) => event.getContent().body);
    },

    async timeline({ roomId }) {
        return client.getRoom(roomId).getLiveTimeline().getEvents().map(describe);
    },

    async members({ roomId }) {
        const room = client.getRoom(roomId);
        await room.loadMembersIfNeeded();
        return room.getJoinedMembers().map((member) => ({ userId: member.userId, name: member.rawDisplayName }));
    },

    async stop() {
        client?.stopClient();
        return {};
    },
};

function toError(error) {
    return { message: String(error?.message ?? error), errcode: error?.errcode ?? null, status: error?.httpStatus ?? null };
}

for await (const line of createInterface({ input: process.stdin })) {
    const { id, do: name, ...options } = JSON.parse(line);
    // Not awaited: a test may wait for an event and send it meanwhile.
    commands[name](options)
        .then((result) => ({ id, result }))
        .catch((error) => ({ id, error: toError(error) }))
        .then((answer) => process.stdout.write(JSON.stringify(answer) + "\n"));
}
process.exit(0);
