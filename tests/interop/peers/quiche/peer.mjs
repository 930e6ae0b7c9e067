// The peer around quiche, through the native part of the npm package @matrixai/quic. Contract: ../README.md.
//
//   options.mjs     the command line            connection.mjs  what both roles do with a connection
//   here            sockets, a server's new connections, and what a client was asked for

import { createSocket } from 'node:dgram';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { isIPv6 } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { Connection, payload, say, sums } from './connection.mjs';
import { EX_INCOMPLETE, EX_UNREACHABLE, fail, parse } from './options.mjs';

const quiche = createRequire(process.env.QUICHE_PEER_MODULES + '/')('@matrixai/quic-linux-x64');
const CONNECTION_WINDOW = 8 << 20; // bytes: what Agave grants
const STREAM_WINDOW = 1 << 20; // bytes
const QUEUE = 256; // DATAGRAMs
const CID_LENGTH = 16; // bytes
const RECEIVE_BUFFER = 4 << 20; // bytes, as much of it as the host allows
const SIGNATURES = 'ed25519:ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256';
const QUIC_V1 = 1;
const FLUSH_MS = 50; // the last datagrams are on their way out

const newId = (length) => randomBytes(length);

function configuration(o) {
  // The peer is asked for a certificate, and any is taken.
  const config = quiche.Config.withBoringSslCtx(true, true, undefined, [readFileSync(o.key)], [readFileSync(o.cert)], SIGNATURES);
  config.setApplicationProtos([o.alpn]);
  config.setMaxIdleTimeout(o.idle);
  config.setInitialMaxData(CONNECTION_WINDOW);
  config.setMaxConnectionWindow(CONNECTION_WINDOW);
  config.setInitialMaxStreamDataUni(STREAM_WINDOW);
  config.setInitialMaxStreamDataBidiLocal(STREAM_WINDOW);
  config.setInitialMaxStreamDataBidiRemote(STREAM_WINDOW);
  config.setMaxStreamWindow(STREAM_WINDOW);
  config.setInitialMaxStreamsUni(o.maxUni);
  config.setInitialMaxStreamsBidi(o.maxBidi);
  config.setActiveConnectionIdLimit(4);
  config.enableDgram(true, QUEUE, QUEUE);
  if (o.zeroRtt) config.enableEarlyData();
  if (o.keylog) config.logKeys();
  return config;
}

function open(host, port) {
  const socket = createSocket({ type: isIPv6(host) ? 'udp6' : 'udp4', recvBufferSize: RECEIVE_BUFFER });
  return new Promise((resolve) => {
    socket.once('error', (error) => fail(EX_UNREACHABLE, error.message));
    socket.bind(port, host, () => {
      socket.removeAllListeners('error');
      socket.on('error', () => {}); // an ICMP error is a lost packet
      resolve(socket);
    });
  });
}

const place = (socket) => ({ host: socket.address().address, port: socket.address().port });

// --- server ---------------------------------------------------------------------------------------------------------

async function serve(o) {
  const socket = await open(o.address.host, o.address.port);
  const local = place(socket), config = configuration(o), owners = new Map(), all = [];
  const send = (data, to) => socket.send(data, to.port, to.host);
  const network = { local, send, newId, version: QUIC_V1, owns: (id, c) => owners.set(Buffer.from(id).toString('hex'), c) };
  // A token is the address that it was sent to and the first connection ID, under a secret of this process.
  const secret = randomBytes(16);
  const token = (from, dcid) => Buffer.concat([secret, Buffer.from(`${from.host} ${from.port} `), dcid]);

  function accept(header, data, from) {
    if (header.ty !== quiche.Type.Initial && header.version === QUIC_V1) return null;
    const out = Buffer.alloc(1500);
    if (header.version !== QUIC_V1) {
      if (data.length >= quiche.MIN_CLIENT_INITIAL_LEN) {
        send(out.subarray(0, quiche.negotiateVersion(header.scid, header.dcid, out)), from);
      }
      return null;
    }
    let original;
    if (o.retry) {
      if (!header.token?.length) {
        const made = token(from, header.dcid);
        send(out.subarray(0, quiche.retry(header.scid, header.dcid, newId(CID_LENGTH), made, header.version, out)), from);
        return null;
      }
      const head = token(from, Buffer.alloc(0)), given = Buffer.from(header.token);
      if (!given.subarray(0, head.length).equals(head)) return null; // not ours, or not for this address
      original = given.subarray(head.length);
    }
    // After a Retry the client's destination ID is the one that the Retry gave it: it stays ours.
    const id = o.retry ? Buffer.from(header.dcid) : newId(CID_LENGTH);
    const quic = quiche.Connection.accept(id, original ?? null, local, from, config);
    const connection = new Connection(quic, all.length, o, network);
    all.push(connection);
    network.owns(id, connection);
    network.owns(header.dcid, connection);
    for (let index = 0; index < o.push; index++) connection.send(payload(index, o.pushSize));
    return connection;
  }

  socket.on('message', (data, info) => {
    const from = { host: info.address, port: info.port };
    let header;
    try {
      header = quiche.Header.fromSlice(data, CID_LENGTH);
    } catch {
      return; // no QUIC
    }
    const known = owners.get(Buffer.from(header.dcid).toString('hex'));
    (known ?? accept(header, data, from))?.receive(data, from);
  });
  say('ready', { port: local.port });
  await new Promise((resolve) => ['SIGTERM', 'SIGINT'].forEach((name) => process.once(name, resolve)));
  for (const connection of all) connection.close(0, 'stopped');
  await sleep(FLUSH_MS);
  return 0;
}

// --- client ---------------------------------------------------------------------------------------------------------

// Has the port change: a NAT forgets its binding. quiche goes on as if nothing had happened.
async function move(connection, wire) {
  const before = wire.socket;
  await wire.listen(await open(before.address().address, 0));
  before.close();
  say('rebound', { conn: connection.number, port: wire.socket.address().port });
}

async function work(connection, o, wire, deadline) {
  const ready = () => connection.established || (o.zeroRtt && connection.quic.isInEarlyData());
  if (!(await connection.until(ready, deadline))) return false;
  let moved = o.rebindAfter === Infinity;
  const moveAfter = async (count) => {
    connection.turn();
    moved = await connection.until(() => connection.acked >= count, deadline);
    if (moved) await move(connection, wire);
    return moved;
  };
  for (let index = 0; index < o.streams; index++) {
    if (index > 0 && o.interval > 0) {
      connection.turn();
      await sleep(o.interval);
    }
    if (index === o.rebindAfter && !(await moveAfter(index))) return false;
    connection.send(payload(index, o.size), o.bidi);
  }
  connection.turn();
  if (o.datagrams > 0) {
    if (!(await connection.until(() => connection.established, deadline))) return false;
    for (let index = 0; index < o.datagrams; index++) connection.quic.dgramSend(payload(index, o.size));
    connection.turn();
  }
  if (!moved && !(await moveAfter(o.streams))) return false;
  const expected = o.expect + (o.bidi ? o.streams : 0);
  return connection.until(
    () => connection.established && connection.acked >= o.streams && connection.received >= expected, deadline);
}

async function dial(o, config, number, session) {
  const any = isIPv6(o.address.host) ? '::' : '0.0.0.0';
  const wire = {
    socket: null,
    async listen(socket) {
      this.socket = socket;
      socket.on('message', (data, info) => connection.receive(data, { host: info.address, port: info.port }));
    },
  };
  const socket = await open(o.bind ?? any, 0);
  const network = { local: place(socket), newId, version: QUIC_V1,
    send: (data, to) => wire.socket.send(data, to.port, to.host) };
  const quic = quiche.Connection.connect(o.address.host, newId(CID_LENGTH), network.local, o.address, config);
  if (session) quic.setSession(session);
  const connection = new Connection(quic, number, o, network);
  await wire.listen(socket);
  connection.turn();
  const deadline = Date.now() + o.timeout;
  const done = await work(connection, o, wire, deadline);
  if (done && (o.count > 1 || o.resume)) {
    await connection.until(() => quic.session() !== null, deadline);
    if (quic.session() !== null) say('session', { conn: number });
  }
  if (done) {
    const taken = new Promise((resolve) => process.once('SIGUSR2', resolve));
    say('done', { conn: number });
    if (o.wait) await Promise.race([taken, connection.until(() => false)]);
    if (o.hold > 0) await connection.until(() => false, Date.now() + o.hold);
  }
  const fresh = quic.session() ?? session;
  connection.close(0, done ? 'done' : 'not done');
  await sleep(FLUSH_MS);
  clearTimeout(connection.timer);
  wire.socket.close();
  return { code: done ? 0 : connection.established ? EX_INCOMPLETE : EX_UNREACHABLE, session: fresh };
}

async function call(o) {
  const config = configuration(o);
  let session = o.resume && existsSync(o.resume) ? readFileSync(o.resume) : null;
  for (let number = 0; number < o.count; number++) {
    const ended = await dial(o, config, number, session);
    if (ended.code) return ended.code;
    session = ended.session;
  }
  if (o.resume && session) writeFileSync(o.resume, session);
  return 0;
}

const options = parse(process.argv.slice(2), '0.18');
const code = await (options.role === 'server' ? serve(options) : call(options));
say('summary', sums);
process.exit(code);
