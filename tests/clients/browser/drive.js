// Serves a page on two origins and opens it in Chromium: the page calls reservd from each.
//
//   node drive.js SERVER GENERATED ALLOWED FORBIDDEN...
//
// SERVER is reservd's URL, GENERATED the folder of the code for its API, ALLOWED and FORBIDDEN are local ports: only
// pages of the first may call. Prints a line of JSON for each. Packages are found by NODE_PATH.
const http = require('node:http');
const path = require('node:path');
const { once } = require('node:events');
const esbuild = require('esbuild');
const { chromium } = require('playwright-core');

const [server, generated, ...ports] = process.argv.slice(2);

async function bundle() {
  const built = await esbuild.build({
    entryPoints: [path.join(__dirname, 'page.js')],
    bundle: true,
    write: false,
    nodePaths: process.env.NODE_PATH.split(':'),
    alias: { reservd: path.join(generated, 'reservd') },
  });
  return built.outputFiles[0].text;
}

async function serve(port, script) {
  const page = http.createServer((request, response) => {
    const isScript = request.url === '/page.js';
    response.setHeader('content-type', isScript ? 'text/javascript' : 'text/html; charset=utf-8');
    response.end(isScript ? script : '<!doctype html><title>A shop</title><script src="/page.js"></script>');
  });
  page.listen(Number(port), '127.0.0.1');
  await once(page, 'listening');
  return page;
}

async function main() {
  const script = await bundle();
  const pages = await Promise.all(ports.map((port) => serve(port, script)));
  // Its sandbox needs rights that a container lacks; and the certificate of a test is nobody's.
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--ignore-certificate-errors'],
  });
  try {
    for (const port of ports) {
      const tab = await browser.newPage();
      await tab.goto(`http://127.0.0.1:${port}/`);
      const seen = await tab.evaluate(
        ([url, eventId]) => callReservd(url, eventId).catch((error) => ({ failed: String(error) })),
        [server, `from-${port}`]);
      console.log(JSON.stringify(seen));
    }
  } finally {
    await browser.close();
    pages.forEach((page) => page.close());
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
