// Reads {trust: [...], cases: [{receipt: base64, trust: index}]}; writes, for each, the verdict and the step that objected.
import { readFileSync } from "node:fs";
const { checkReceipt } = await import(process.argv[2]);
const { trust, cases } = JSON.parse(readFileSync(0, "utf8"));
const found = [];
for (const one of cases) {
  const { verdict, steps } = await checkReceipt(new Uint8Array(Buffer.from(one.receipt, "base64")), trust[one.trust]);
  const failed = steps.findIndex((step) => step.outcome === "failed");
  found.push({
    verdict,
    failed: failed + 1,
    after: steps.slice(failed + 1).map((step) => step.outcome),
    detail: failed < 0 ? "" : steps[failed].detail,
  });
}
process.stdout.write(JSON.stringify(found));
