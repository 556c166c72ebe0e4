// Writes what the built files were built from, so that a test without node can tell if they are old.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const sources = ['package.json', 'package-lock.json', 'tsconfig.json'];
sources.push(...readdirSync('src').map(name => `src/${name}`));
const digest = createHash('sha256');
for (const name of sources.sort()) {
  digest.update(`${name}\0`).update(readFileSync(name)).update('\0');
}
const stamp = { sources: digest.digest('hex') };
writeFileSync('clouditia_lab/labextension/stamp.json', `${JSON.stringify(stamp)}\n`);
