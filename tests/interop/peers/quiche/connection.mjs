// What both roles do with a connection of quiche: datagrams in and out, timers, streams, counts, and what is said of them.
//
//   datagram -> receive() -> quiche -> look(): connected? streams, DATAGRAMs, acknowledgements, the end
//                                        -> pump(): what waits to be sent        -> flush(): quiche -> datagrams
//
// quiche does not tell that a stream is acknowledged. It forgets a stream that is done on both sides, and says so when asked.

import { createHash } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { appendFileSync, readFileSync, rmSync, writeSync } from 'node:fs';

const BUFFER = 65536; // bytes
const CID_LENGTH = 16; // bytes
const AT_ONCE = 512; // datagrams written before anything else gets its turn

export function say(event, fields) {
  // Written whole, in order, and seen by whoever reads even if we are killed.
  writeSync(1, JSON.stringify({ event, ...fields }) + '\n');
}

export const sha256 = (data) => createHash('sha256').update(data).digest('hex');

export function payload(index, size) {
  const name = Buffer.alloc(8);
  name.writeBigUInt64BE(BigInt(index));
  const block = createHash('sha256').update(name).digest();
  return Buffer.alloc(size, block);
}

export const sums = { streams: 0, bytes: 0, datagrams: 0, acked: 0 };

export class Connection extends EventEmitter {
  constructor(quic, number, options, network) {
    super();
    Object.assign(this, { quic, number, options, network });
    this.out = Buffer.alloc(BUFFER);
    this.in = Buffer.alloc(BUFFER);
    this.partial = new Map(); // stream id -> what was received of it
    this.pending = []; // streams with bytes to be sent: {id, data, at}
    this.unacknowledged = []; // stream ids, in order of sending
    this.opened = { uni: 0, bidi: 0 };
    this.received = this.acked = 0; // streams, whole
    this.established = this.ended = false;
    this.timer = null;
    // quiche begins its key log anew with each connection: each has a file of its own, added to the one that was asked for.
    this.keys = options.keylog ? `${options.keylog}.${number}` : null;
    if (this.keys) quic.setKeylog(this.keys);
  }

  logKeys() {
    if (this.keys === null) return;
    appendFileSync(this.options.keylog, readFileSync(this.keys));
    rmSync(this.keys);
    this.keys = null;
  }

  receive(data, from) {
    try {
      this.quic.recv(data, { from, to: this.network.local });
    } catch (error) {
      // quiche closes the connection itself where the packet breaks a rule; a packet it cannot read is nobody's.
      if (process.env.QUICHE_PEER_DEBUG) process.stderr.write(`recv: ${error.message}\n`);
    }
    this.turn();
  }

  turn() {
    this.look();
    this.pump();
    this.flush();
    this.look();
    clearTimeout(this.timer);
    const left = this.quic.isClosed() ? null : this.quic.timeout();
    if (left !== null) {
      this.timer = setTimeout(() => {
        this.quic.onTimeout();
        this.turn();
      }, left);
    }
    this.emit('changed');
  }

  look() {
    if (!this.established && this.quic.isEstablished()) {
      this.established = true;
      this.logKeys();
      this.connected();
    }
    if (this.established || this.quic.isInEarlyData()) this.take();
    this.acknowledge();
    this.end();
  }

  connected() {
    const chain = this.quic.peerCertChain();
    const protocol = Buffer.from(this.quic.applicationProto()).toString();
    // Neither the suite nor what became of early data is told.
    say('connected', { conn: this.number, resumed: this.quic.isResumed(), early_data: null, cipher: null,
      version: this.network.version, alpn: protocol, certificate: chain?.length ? sha256(chain[0]) : null });
    this.spareIds();
  }

  // The other side may change its address only to a connection ID that it has not used yet.
  spareIds() {
    while (this.quic.sourceCidsLeft() > 0) {
      const id = this.network.newId(CID_LENGTH);
      this.quic.newSourceCid(id, BigInt('0x' + Buffer.from(this.network.newId(16)).toString('hex')), false);
      this.network.owns?.(id, this);
    }
  }

  take() {
    for (const id of this.quic.readable()) {
      const parts = this.partial.get(id) ?? [];
      this.partial.set(id, parts);
      for (;;) {
        let got;
        try {
          got = this.quic.streamRecv(id, this.in);
        } catch {
          this.partial.delete(id); // reset by the peer
          break;
        }
        if (got === null) break;
        parts.push(Buffer.from(this.in.subarray(0, got[0])));
        if (got[1]) {
          this.partial.delete(id);
          this.whole(id, Buffer.concat(parts));
          break;
        }
      }
    }
    for (let data; (data = this.quic.dgramRecvVec()) !== null;) {
      sums.datagrams++;
      if (!this.options.quiet) say('datagram', { conn: this.number, bytes: data.length, sha256: sha256(data) });
    }
  }

  whole(id, data) {
    sums.streams++;
    sums.bytes += data.length;
    this.received++;
    if (!this.options.quiet) say('stream', { conn: this.number, id, bytes: data.length, sha256: sha256(data) });
    if (this.options.role === 'server' && (id & 3) === 0) {
      this.pending.push({ id, data: this.options.echo ? data : Buffer.alloc(0), at: 0 });
    }
    if (this.received >= (this.options.closeAfter ?? Infinity)) this.close(this.options.closeCode, 'enough');
  }

  // Takes a stream that is to be opened; it waits until the peer grants it.
  send(data, bidi = false) {
    this.pending.push({ id: null, bidi, data, at: 0 });
  }

  pump() {
    while (this.pending.length > 0) {
      const stream = this.pending[0];
      if (stream.id === null) {
        const left = stream.bidi ? this.quic.peerStreamsLeftBidi() : this.quic.peerStreamsLeftUni();
        if (left === 0) return;
        const kind = stream.bidi ? 'bidi' : 'uni';
        stream.id = 4 * this.opened[kind]++ + (stream.bidi ? 0 : 2) + (this.options.role === 'server' ? 1 : 0);
        this.unacknowledged.push(stream.id);
      }
      let sent;
      try {
        sent = this.quic.streamSend(stream.id, stream.data.subarray(stream.at), true);
      } catch (error) {
        if (!this.ended && !/StreamStopped|StreamLimit/.test(error.message)) throw error;
        sent = null;
      }
      if (sent === null) return; // no credit: once more when something came
      stream.at += sent;
      if (stream.at < stream.data.length) return;
      this.pending.shift();
    }
  }

  acknowledge() {
    while (this.unacknowledged.length > 0 && this.pending[0]?.id !== this.unacknowledged[0]) {
      try {
        this.quic.streamCapacity(this.unacknowledged[0]);
        return; // quiche still knows it
      } catch {
        if (this.ended) return;
        const id = this.unacknowledged.shift();
        sums.acked++;
        this.acked++;
        if (!this.options.quiet) say('acked', { conn: this.number, id });
      }
    }
  }

  flush() {
    for (let i = 0; i < AT_ONCE; i++) {
      const made = this.quic.send(this.out);
      if (made === null) return;
      const [length, { to }] = made;
      this.network.send(Buffer.from(this.out.subarray(0, length)), to);
    }
    setImmediate(() => this.turn());
  }

  close(code, reason) {
    if (this.ended) return;
    try {
      this.quic.close(true, code, Buffer.from(reason));
    } catch {
      return; // it is closed already
    }
    this.flush();
    this.end();
  }

  end() {
    if (this.ended) return;
    const theirs = this.quic.peerError(), ours = this.quic.localError();
    if (theirs === null && ours === null && !this.quic.isClosed()) return;
    this.ended = true;
    this.logKeys();
    const error = theirs ?? ours ?? { errorCode: 0, reason: Buffer.from('timed out'), isApp: false };
    say('closed', { conn: this.number, code: error.errorCode, reason: Buffer.from(error.reason).toString(),
      application: error.isApp, by: theirs ? 'peer' : ours ? 'local' : 'idle' });
  }

  // Resolves to true once `ready()`, to false where the connection ends or time is over before.
  until(ready, deadline = Infinity) {
    return new Promise((resolve) => {
      const look = () => {
        const now = Date.now();
        if (ready() || this.ended || now >= deadline) {
          this.off('changed', look);
          clearTimeout(timer);
          resolve(ready());
        }
      };
      const timer = deadline === Infinity ? undefined : setTimeout(look, Math.max(0, deadline - Date.now()) + 1);
      this.on('changed', look);
      look();
    });
  }
}
