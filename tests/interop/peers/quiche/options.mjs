// The command line of every peer (../README.md), as far as quiche's Node binding can do it: it offers no choice of a suite, no key
// update of ours and no other version.

import { parseArgs } from 'node:util';

export const EX_INCOMPLETE = 1;
export const EX_USAGE = 64;
export const EX_UNREACHABLE = 69;
const NEVER = Infinity;

// name: [kind, default]
const BOTH = { alpn: ['text', 'solana-tpu'], 'max-uni': ['number', 128], 'max-bidi': ['number', 128], idle: ['number', 30000],
  keylog: ['text'], quiet: ['flag'], 'zero-rtt': ['flag'] };
const SERVER = { retry: ['flag'], echo: ['flag'], push: ['number', 0], 'push-size': ['number', 17],
  'close-after': ['number', NEVER], 'close-code': ['number', 5] };
const CLIENT = { streams: ['number', 1], size: ['number', 235], bidi: ['flag'], expect: ['number', 0], datagrams: ['number', 0],
  count: ['number', 1], resume: ['text'], 'rebind-after': ['number', NEVER], bind: ['text'], interval: ['number', 0],
  hold: ['number', 0], wait: ['flag'], timeout: ['number', 20000] };

export function fail(code, what) {
  process.stderr.write(`quiche-peer: ${what}\n`);
  process.exit(code);
}

function features(version) {
  const names = (own) => [...Object.keys(BOTH), ...Object.keys(own)];
  process.stdout.write(JSON.stringify({ engine: 'quiche', version, certificate: 'ed25519', acked: true,
    ciphers: ['aes128', 'aes256', 'chacha20'], server: names(SERVER), client: names(CLIENT) }) + '\n');
  process.exit(0);
}

export function endpoint(text) {
  const at = text.lastIndexOf(':');
  return { host: text.slice(0, at).replace(/[[\]]/g, ''), port: Number(text.slice(at + 1)) };
}

export function parse(words, version) {
  const role = words[0];
  if (role === 'features') features(version);
  if (role !== 'server' && role !== 'client') fail(EX_USAGE, 'say features, server or client');
  const known = { ...BOTH, ...(role === 'server' ? SERVER : CLIENT), cert: ['text'], key: ['text'],
    [role === 'server' ? 'listen' : 'connect']: ['text'] };
  const options = Object.fromEntries(
    Object.entries(known).map(([name, [kind]]) => [name, { type: kind === 'flag' ? 'boolean' : 'string' }]));
  let given;
  try {
    given = parseArgs({ args: words.slice(1), options }).values;
  } catch (error) {
    fail(EX_USAGE, `${error.message}; see \`quiche-peer features\``);
  }
  const parsed = { role };
  for (const [name, [kind, value]] of Object.entries(known)) {
    const field = name.replace(/-(\w)/g, (_, letter) => letter.toUpperCase());
    parsed[field] = given[name] === undefined ? (kind === 'flag' ? false : value)
      : kind === 'number' ? Number(given[name]) : given[name];
    if (Number.isNaN(parsed[field])) fail(EX_USAGE, `--${name} ${given[name]}: a number is wanted`);
  }
  const address = role === 'server' ? parsed.listen : parsed.connect;
  if (!address || !parsed.cert || !parsed.key) fail(EX_USAGE, '--listen or --connect, --cert and --key are needed');
  parsed.address = endpoint(address);
  return parsed;
}
