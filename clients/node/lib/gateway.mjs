/** The gateway's calls, over mutual TLS 1.3. Nothing that comes back is believed. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';

import grpc from '@grpc/grpc-js';

import { CloisterError } from './errors.mjs';
import { decode, definitions } from './wire.mjs';

const MAX_MESSAGE_BYTES = 65 * 1024 * 1024;

export class Gateway {
  #channel;

  /** @param {grpc.Client} channel */
  constructor(channel) {
    this.#channel = channel;
  }

  /**
   * @param {string} address host:port
   * @param {string} identity folder with certificate.pem, private_key.pem and trust_roots.pem
   * @param {string} cluster
   */
  static async connect(address, identity, cluster) {
    const names = ['trust_roots.pem', 'certificate.pem', 'private_key.pem'];
    const [ca, cert, key] = await Promise.all(names.map((name) => readFile(join(identity, name))));
    const credentials = grpc.credentials.createFromSecureContext(
      createSecureContext({ ca, cert, key, minVersion: 'TLSv1.3' }),
    );
    const serverName = `gateway.${cluster}`;
    const options = {
      'grpc.ssl_target_name_override': serverName,
      'grpc.default_authority': serverName,
      'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
      'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
      'grpc.enable_retries': 0,
    };
    return new Gateway(new grpc.Client(address, credentials, options));
  }

  close() {
    this.#channel.close();
  }

  /** Who serves a model. @param {string} model_name @param {string} model_version @param {number} untilMs */
  listWorkers(model_name, model_version, untilMs) {
    return this.#call('cloister.api.v1.Gateway', 'ListWorkers', { model_name, model_version }, untilMs);
  }

  /**
   * @param {object} request ModelInferRequest
   * @param {number} untilMs
   * @returns {Promise<Buffer>} serialised ModelInferResponse
   */
  infer(request, untilMs) {
    return this.#call(
      'inference.GRPCInferenceService',
      'ModelInfer',
      request,
      untilMs,
      (/** @type {Buffer} */ raw) => raw,
    );
  }

  /** @param {number} untilMs Unix time */
  stream(untilMs) {
    const { path } = /** @type {any} */ (definitions['inference.GRPCInferenceService']).ModelStreamInfer;
    const asIs = (/** @type {Buffer} */ raw) => raw;
    const options = { deadline: untilMs };
    return new Stream(this.#channel.makeBidiStreamRequest(path, asIs, (raw) => decode('StreamItem', raw), options));
  }

  /**
   * @param {string} service @param {string} method @param {object} request @param {number} untilMs Unix time
   * @param {(raw: Buffer) => any} [read] the answer
   * @returns {Promise<any>}
   */
  #call(service, method, request, untilMs, read) {
    const { path, requestSerialize, responseDeserialize } = /** @type {any} */ (definitions[service])[method];
    return new Promise((resolve, reject) => {
      this.#channel.makeUnaryRequest(
        path,
        requestSerialize,
        read ?? responseDeserialize,
        request,
        { deadline: untilMs },
        (error, answer) => {
          if (error) reject(told(error));
          else resolve(answer);
        },
      );
    });
  }
}

/** ModelStreamInfer: answers come in the order of their requests, and an error is an item like any other. */
export class Stream {
  #call;
  /** @type {{resolve: (raw: Buffer) => void, reject: (error: Error) => void}[]} */
  #waiting = [];
  /** @type {CloisterError | undefined} */
  #ended;

  /** @param {grpc.ClientDuplexStream<Buffer, any>} call */
  constructor(call) {
    this.#call = call;
    call.on('data', (item) => this.#deliver(item));
    call.on('error', (/** @type {any} */ error) => this.#end(told(error)));
    call.on('end', () => this.#end(new CloisterError('the gateway ended the stream', 'stream.ended', 'Unavailable')));
  }

  /**
   * @param {Buffer} request serialised ModelInferRequest
   * @returns {Promise<Buffer>} serialised ModelInferResponse
   */
  ask(request) {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#ended);
      this.#waiting.push({ resolve, reject });
      this.#call.write(request);
    });
  }

  close() {
    this.#call.end();
  }

  /** @param {{error_message: string, infer_response: Buffer}} item */
  #deliver({ error_message: message, infer_response: raw }) {
    const waiting = this.#waiting.shift();
    if (message === '') return waiting?.resolve(raw);
    const { 'cloister-error': kind, 'cloister-reason': reason } = decode('ModelInferResponse', raw).parameters;
    return waiting?.reject(
      new CloisterError(message, reason?.string_param ?? 'error', kind?.string_param ?? 'CloisterError'),
    );
  }

  /** @param {CloisterError} error */
  #end(error) {
    this.#ended ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#ended);
  }
}

/**
 * What the other side says of an error: class and reason are in `grpc-status-details-bin`.
 * @param {grpc.ServiceError} error
 */
function told(error) {
  const [raw] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (Buffer.isBuffer(raw)) {
    for (const { type_url, value } of decode('Status', raw).details) {
      if (type_url !== 'type.googleapis.com/google.rpc.ErrorInfo') continue;
      const { domain, reason, metadata } = decode('ErrorInfo', value);
      if (domain === 'cloister') return new CloisterError(error.details, reason, metadata.error ?? 'CloisterError');
    }
  }
  return new CloisterError(error.details, `grpc.${grpc.status[error.code].toLowerCase()}`, 'GrpcError');
}
