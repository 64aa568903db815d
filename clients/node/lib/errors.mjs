/**
 * Every error this client raises on purpose. `reason` is stable and the same as in the other clients; messages are for
 * people. What a worker or gateway tells has its class in `kind`.
 */

export class CloisterError extends Error {
  /**
   * @param {string} message
   * @param {string} reason
   * @param {string} kind
   */
  constructor(message, reason, kind) {
    super(message);
    this.name = kind;
    this.reason = reason;
    this.kind = kind;
  }
}

/** Anything wrong while opening something sealed, or with a receipt: one class, one message, no oracle. */
export class SealBroken extends CloisterError {
  constructor() {
    super('the sealed message could not be opened', 'seal.broken', 'SealBroken');
  }
}

/** An Attestation Result, a key set or a worker was not believed. */
export class Rejected extends CloisterError {
  /**
   * @param {string} message
   * @param {string} reason
   */
  constructor(message, reason) {
    super(message, reason, 'EvidenceRejected');
  }
}

/** A file or an argument is not what it should be. */
export class InvalidRequest extends CloisterError {
  /**
   * @param {string} message
   * @param {string} [reason]
   */
  constructor(message, reason = 'request.invalid') {
    super(message, reason, 'InvalidRequest');
  }
}
