#!/usr/bin/env node
// check.mjs BASE_URL OUT.json SHOTS_FOLDER WORKFLOW.json... : opens each UI-format workflow in the real
// page at BASE_URL, all in one headless Chromium, and writes what it saw as a JSON list: missing and
// red nodes, widgets with an unknown choice, failed requests, page errors, and the API prompt.
// PLAYWRIGHT names the folder that holds node_modules/playwright-core, CHROMIUM the browser.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';

const [base, outFile, shots, ...workflows] = process.argv.slice(2);
const { chromium } = createRequire(path.join(process.env.PLAYWRIGHT, 'x.js'))('playwright-core');
const TIMEOUT = 300000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--use-gl=swiftshader',
    '--enable-unsafe-swiftshader'],
});
const seen = [];
try {
  const page = await openPage(browser);
  for (const file of workflows) seen.push(await check(page, file));
} finally {
  fs.writeFileSync(outFile, JSON.stringify(seen, null, 1));
  await browser.close();
}

async function openPage(browser) {
  const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
  page.notes = { pageErrors: [], failedRequests: [], outside: [] };
  page.on('pageerror', e => page.notes.pageErrors.push(String(e).slice(0, 300)));
  page.on('response', r => {
    if (r.status() >= 400 && r.url().startsWith(base)) {
      page.notes.failedRequests.push(`${r.status()} ${r.request().method()} ${r.url().slice(base.length)}`);
    }
  });
  // nothing outside the host is asked for
  await page.route('**/*', route => {
    const url = route.request().url();
    if (url.startsWith(base) || /^(data|blob):/.test(url)) return route.continue();
    page.notes.outside.push(url.slice(0, 200));
    return route.abort();
  });
  await page.goto(base, { waitUntil: 'domcontentloaded', timeout: TIMEOUT });
  await page.waitForFunction(() => window.app?.graph && window.app?.extensionManager &&
    Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 5, null, { timeout: TIMEOUT });
  await page.waitForTimeout(1500);
  await closeDialogs(page);
  return page;
}

async function closeDialogs(page) {
  for (let i = 0; i < 3; i++) { await page.keyboard.press('Escape'); await page.waitForTimeout(200); }
}

async function check(page, file) {
  const name = path.basename(file, '.json');
  const workflow = JSON.parse(fs.readFileSync(file, 'utf8'));
  await page.evaluate(([wf, name]) => app.loadGraphData(wf, true, true, name), [workflow, name]);
  await page.waitForTimeout(1500);
  const nodes = await page.evaluate(() => {
    const all = []; // the root graph and the insides of subgraphs
    const walk = (graph, prefix) => { for (const n of graph.nodes ?? []) {
      const widgets = n.widgets ?? [];
      all.push({
        name: `${prefix}${n.id} ${n.type}`,
        missing: !LiteGraph.registered_node_types[n.type] && !n.subgraph && !n.isVirtualNode,
        red: !!n.has_errors,
        unlinked: (n.inputs ?? []).filter(i => i.link == null && !i.widget &&
          n.constructor.nodeData?.input?.required?.[i.name]).map(i => i.name),
        unknown: widgets.filter(w => w.type === 'combo' && Array.isArray(w.options?.values) &&
          !w.options.values.includes(w.value)).map(w => `${w.name}=${w.value}`),
      });
      if (n.subgraph) walk(n.subgraph, `${prefix}${n.id}:`);
    } };
    walk(app.graph, '');
    return all;
  });
  await closeDialogs(page);
  await page.evaluate(() => app.extensionManager.command.execute('Comfy.Canvas.FitView'));
  await page.waitForTimeout(700);
  await page.screenshot({ path: path.join(shots, `${name}.png`) });
  const prompt = await page.evaluate(async () => (await app.graphToPrompt()).output);
  const dialogs = await page.evaluate(() => [...document.querySelectorAll('[role=alert], .p-toast-message')]
    .map(e => e.innerText.replace(/\s+/g, ' ').slice(0, 300)).filter(Boolean));
  const notes = { ...page.notes }; // the first workflow's hold those of the page's own start
  for (const key of Object.keys(notes)) page.notes[key] = [];
  const list = (test, show = n => n.name) => nodes.filter(test).map(show);
  return {
    name, prompt, dialogs, ...notes,
    nodes: nodes.length,
    missing: list(n => n.missing),
    red: list(n => n.red),
    unlinked: list(n => n.unlinked.length, n => `${n.name}: ${n.unlinked}`),
    unknown: list(n => n.unknown.length, n => `${n.name}: ${n.unknown}`),
  };
}
