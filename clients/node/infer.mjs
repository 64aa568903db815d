#!/usr/bin/env node
/** Ask a model of a mesh from the command line; see `--help`. */

import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';

import { Client, numbersOf, tensorOf, TrustBundle } from './lib/client.mjs';
import { CloisterError, InvalidRequest } from './lib/errors.mjs';

const USAGE = `node infer.mjs --gateway HOST:PORT --trust FILE --identity FOLDER --model NAME --input NAME=VALUES

Seals a request to workers that the trust bundle believes, and prints the answer as JSON once it is proved.

  --gateway   where the mesh listens
  --trust     trust bundle ('cloister trust pin', or trust.json of whoever founded the mesh)
  --identity  folder of a client's identity ('cloister identity issue client NAME --out FOLDER')
  --model     NAME or NAME@VERSION
  --input     once for each input, such as x=[[1,2,3]] or n:INT64=[7]; FP32 where no datatype is named
  --receipt   a file to keep the receipt in, for 'cloister receipt verify'
  --unpadded  let lengths show, which a worker of version 1 of sealing needs
  --timeout   seconds; 30

Ends with 0, or with 3 where something was not believed, or with 1 for any other error.
`;

/** Believes the verifier about quotes: see docs/seal-format.md. */
async function main() {
  const { values } = parseArgs({
    options: {
      gateway: { type: 'string' },
      trust: { type: 'string' },
      identity: { type: 'string' },
      model: { type: 'string' },
      input: { type: 'string', multiple: true },
      receipt: { type: 'string' },
      unpadded: { type: 'boolean', default: false },
      timeout: { type: 'string', default: '30' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const { gateway, trust, identity, model, input } = values;
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  if (!gateway || !trust || !identity || !model || !input)
    throw new InvalidRequest('name --gateway, --trust, --identity, --model and --input; --help says what each is');
  const bundle = await TrustBundle.read(trust);
  if (bundle.simulated) process.stderr.write('simulated hardware: the owner of its machine can read what is sealed\n');
  if (bundle.weak) process.stderr.write('the verifier was pinned by a fingerprint, not by evidence\n');
  const client = await Client.connect(gateway, { trust: bundle, identity, padded: !values.unpadded });
  try {
    const [name, version = ''] = model.split('@');
    const options = { version, timeoutMs: Number(values.timeout) * 1000 };
    const answer = await client.infer(name, Object.fromEntries(input.map(parseInput)), options);
    if (values.receipt) await writeFile(values.receipt, answer.receipt, { mode: 0o600 });
    process.stdout.write(
      `${JSON.stringify(shown(answer), (_, value) => (typeof value === 'bigint' ? Number(value) : value))}\n`,
    );
  } finally {
    client.close();
  }
}

/** @param {string} text @returns {[string, import('./lib/tensors.mjs').Tensor]} */
function parseInput(text) {
  const found = /^([^:=]+)(?::(\w+))?=(.*)$/s.exec(text);
  if (found === null)
    throw new InvalidRequest(`--input is NAME=VALUES or NAME:DATATYPE=VALUES, not '${text.slice(0, 40)}'`);
  const [, name, datatype, values] = found;
  try {
    return [name, tensorOf(name, JSON.parse(values), datatype)];
  } catch (error) {
    if (error instanceof CloisterError) throw error;
    throw new InvalidRequest(`input '${name}': its values are not JSON`);
  }
}

/** @param {import('./lib/client.mjs').Answer} answer */
function shown({ outputs, worker }) {
  const tensors = Object.entries(outputs).map(([name, tensor]) => {
    return [name, { datatype: tensor.datatype, shape: tensor.shape, data: numbersOf(tensor) }];
  });
  return {
    outputs: Object.fromEntries(tensors),
    model: `${worker.model.name}@${worker.model.version}`,
    worker: worker.instance,
    tee: worker.result.tee,
    measurement: worker.result.measurement,
    mrenclave: worker.result.mrenclave,
    simulated: worker.result.simulated,
  };
}

try {
  await main();
} catch (error) {
  const { message, reason, kind } = /** @type {Partial<CloisterError>} */ (error);
  process.stderr.write(`${message}${reason ? ` (${reason})` : ''}\n`);
  process.exitCode = kind === 'EvidenceRejected' || kind === 'SealBroken' ? 3 : 1;
}
