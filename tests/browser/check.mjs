#!/usr/bin/env node
// check.mjs BASE_URL OUT.json SHOTS_FOLDER FILE.json... : opens each UI-format workflow in the real page at
// BASE_URL and runs it, first drawn on the canvas, then as Vue nodes, all in one headless Chromium, and
// writes what it saw as JSON: of each workflow missing and red nodes, nodes that overlap, widgets with an
// unknown choice, failed requests, page errors, the API prompt and how the run ended; of the page the names
// of nodes by language, the blueprints that the server lists, and the help pages. A file in a folder
// `subgraphs` is a blueprint: it is opened and not run. A .png is dropped onto the empty page, as a user
// does, and so is one that a workflow saved; what the page then holds is written.
// PLAYWRIGHT names the folder that holds node_modules/playwright-core, CHROMIUM the browser.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';

const [base, outFile, shots, ...files] = process.argv.slice(2);
const blueprints = files.filter(f => path.basename(path.dirname(f)) === 'subgraphs');
const pictures = files.filter(f => path.extname(f) === '.png');
const workflows = files.filter(f => !blueprints.includes(f) && !pictures.includes(f));
const { chromium } = createRequire(path.join(process.env.PLAYWRIGHT, 'x.js'))('playwright-core');
const TIMEOUT = 900000; // a busy machine is slow
const RENDERERS = { canvas: false, vue: true };
const LANGUAGES = ['zh', 'ja', 'en'];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--use-gl=swiftshader',
    '--enable-unsafe-swiftshader'],
});
const seen = { workflows: [], blueprints: [], dropped: [] };
try {
  const page = await openPage(browser);
  seen.start = takeNotes(page);
  for (const [renderer, vue] of Object.entries(RENDERERS)) {
    await page.evaluate(() => app.graph.clear());
    await set(page, 'Comfy.VueNodes.Enabled', vue);
    for (const file of workflows) seen.workflows.push(await check(page, file, renderer));
    for (const file of blueprints) seen.blueprints.push(await open(page, file, renderer));
  }
  await set(page, 'Comfy.VueNodes.Enabled', false);
  for (const file of pictures) seen.dropped.push(await drop(page, file, fs.readFileSync(file)));
  for (const [name, bytes] of await savedPictures(page)) seen.dropped.push(await drop(page, name, bytes));
  seen.help = await readHelp(page);
  seen.languages = await readNames(page, workflows[0]);
} finally {
  fs.writeFileSync(outFile, JSON.stringify(seen, null, 1));
  await browser.close();
}

async function openPage(browser) {
  const page = await browser.newPage({ viewport: { width: 1600, height: 1000 } });
  page.setDefaultTimeout(TIMEOUT); // a busy machine draws slowly
  page.notes = { pageErrors: [], consoleErrors: [], failedRequests: [], outside: [] };
  page.on('pageerror', e => page.notes.pageErrors.push(String(e.stack ?? e).slice(0, 600)));
  page.on('console', m => {
    if (m.type() === 'error') page.notes.consoleErrors.push(`${m.text()} (${m.location().url})`.slice(0, 600));
  });
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
  await waitForApp(page);
  await set(page, 'Comfy.Minimap.Visible', false);
  await set(page, 'LiteGraph.Canvas.MinFontSizeForLOD', 0); // words stay in the pictures of large graphs
  return page;
}

async function waitForApp(page) {
  await page.waitForFunction(() => window.app?.graph && window.app?.extensionManager &&
    Object.keys(window.LiteGraph?.registered_node_types ?? {}).length > 5, null, { timeout: TIMEOUT });
  await page.waitForTimeout(1500);
  await closeDialogs(page);
}

async function set(page, name, value) {
  await page.evaluate(([n, v]) => app.extensionManager.setting.set(n, v), [name, value]);
}

function takeNotes(page) {
  const notes = { ...page.notes };
  for (const key of Object.keys(notes)) page.notes[key] = [];
  return notes;
}

async function closeDialogs(page) {
  for (let i = 0; i < 3; i++) { await page.keyboard.press('Escape'); await page.waitForTimeout(150); }
}

async function load(page, file) {
  const workflow = JSON.parse(fs.readFileSync(file, 'utf8'));
  const name = path.basename(file, '.json');
  await page.evaluate(([wf, name]) => app.loadGraphData(wf, true, true, name), [workflow, name]);
  await page.waitForTimeout(1200);
}

async function check(page, file, renderer) {
  const entry = await open(page, file, renderer);
  const prompt = await page.evaluate(async () => (await app.graphToPrompt()).output);
  const run = await runGraph(page);
  await page.waitForTimeout(1500); // pictures come in
  await shoot(page, `${entry.name}_${renderer}_run`);
  const ran = await readNodes(page);
  const dialogs = await page.evaluate(() => [...document.querySelectorAll('[role=alert], .p-toast-message')]
    .map(e => e.innerText.replace(/\s+/g, ' ').slice(0, 300)).filter(Boolean));
  const notes = takeNotes(page);
  for (const key of Object.keys(notes)) notes[key] = [...entry[key], ...notes[key]];
  return {
    ...entry, ...notes, prompt, run, dialogs,
    red: [...entry.red, ...ran.filter(n => n.red).map(n => n.name)],
    overlapping: [...new Set([...entry.overlapping, ...overlaps(ran)])],
  };
}

async function open(page, file, renderer) {
  const name = path.basename(file, '.json');
  await load(page, file);
  await closeDialogs(page);
  await shoot(page, `${name}_${renderer}`);
  const nodes = await readNodes(page);
  const list = (test, show = n => n.name) => nodes.filter(test).map(show);
  return {
    name, renderer, ...takeNotes(page),
    nodes: nodes.length,
    vueNodes: await page.evaluate(() => document.querySelectorAll('[data-node-id]').length),
    missing: list(n => n.missing),
    red: list(n => n.red),
    unlinked: list(n => n.unlinked.length, n => `${n.name}: ${n.unlinked}`),
    unknown: list(n => n.unknown.length, n => `${n.name}: ${n.unknown}`),
    overlapping: overlaps(nodes),
  };
}

async function readNodes(page) {
  return page.evaluate(() => {
    const all = []; // the root graph and the insides of subgraphs
    const walk = (graph, prefix) => { for (const n of graph.nodes ?? []) {
      const widgets = n.widgets ?? [];
      all.push({
        graph: prefix,
        name: `${prefix}${n.id} ${n.type}`,
        box: [...n.boundingRect],
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
}

function overlaps(nodes) {
  const found = [];
  const covers = (a, b) => a[0] < b[0] + b[2] && b[0] < a[0] + a[2] && a[1] < b[1] + b[3] && b[1] < a[1] + a[3];
  for (const [i, a] of nodes.entries()) for (const b of nodes.slice(i + 1)) {
    if (a.graph === b.graph && covers(a.box, b.box)) found.push(`${a.name} and ${b.name}`);
  }
  return found;
}

async function runGraph(page) {
  await page.evaluate(() => {
    window.__ended = null;
    if (window.__listens) return;
    window.__listens = true;
    const api = app.api ?? window.comfyAPI.api.api;
    for (const type of ['execution_success', 'execution_error', 'execution_interrupted']) {
      api.addEventListener(type, e => { window.__ended = { type, detail: e.detail }; });
    }
  });
  const asked = page.waitForResponse(r => /\/prompt$/.test(new URL(r.url()).pathname) &&
    r.request().method() === 'POST', { timeout: 60000 });
  await page.locator('[data-testid="queue-button"]:visible').first().click();
  const answer = await asked;
  if (answer.status() !== 200) return `${answer.status()} ${(await answer.text()).slice(0, 800)}`;
  await page.waitForFunction(() => window.__ended, null, { timeout: TIMEOUT });
  const ended = await page.evaluate(() => window.__ended);
  if (ended.type === 'execution_success') return ended.type;
  return `${ended.type} ${ended.detail?.node_type}: ${ended.detail?.exception_message}`;
}

async function shoot(page, name) {
  await page.mouse.move(5, 500);
  await page.evaluate(() => {
    app.canvas.deselectAll?.();
    return app.extensionManager.command.execute('Comfy.Canvas.FitView');
  });
  await page.waitForTimeout(700);
  await page.screenshot({ path: path.join(shots, `${name}.png`), animations: 'disabled' });
}

// Let a picture's file fall onto the middle of the canvas.
async function drop(page, name, bytes) {
  await page.evaluate(() => app.graph.clear());
  await page.evaluate(([name, data]) => {
    const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([bytes], name, { type: 'image/png' }));
    const at = { clientX: innerWidth / 2, clientY: innerHeight / 2, bubbles: true, cancelable: true, dataTransfer };
    for (const type of ['dragenter', 'dragover', 'drop']) {
      document.elementFromPoint(at.clientX, at.clientY).dispatchEvent(new DragEvent(type, at));
    }
  }, [path.basename(name), bytes.toString('base64')]);
  await page.waitForFunction(() => app.graph.nodes.length > 0, null, { timeout: 60000 });
  await page.waitForTimeout(1500);
  await closeDialogs(page);
  const title = path.basename(name, '.png');
  await shoot(page, `dropped_${title}`);
  const nodes = await readNodes(page);
  return {
    name: title, ...takeNotes(page),
    missing: nodes.filter(n => n.missing).map(n => n.name),
    red: nodes.filter(n => n.red).map(n => n.name),
    types: await page.evaluate(() => app.graph.nodes.map(n => n.type)),
    overlapping: overlaps(nodes),
    prompt: await page.evaluate(async () => (await app.graphToPrompt()).output),
  };
}

// The last picture of each name that Save Image saved for the page.
async function savedPictures(page) {
  const files = await page.evaluate(async () => {
    const all = Object.values(await (await fetch('/history')).json());
    return all.flatMap(run => Object.values(run.outputs).flatMap(o => o.images ?? []))
      .filter(f => f.type === 'output' && /_\d+_\.png$/.test(f.filename));
  });
  const last = new Map(files.map(f => [`${f.subfolder}/${f.filename.replace(/_\d+_\.png$/, '')}`, f]));
  const found = [];
  for (const file of last.values()) {
    const data = await page.evaluate(async f => {
      const bytes = new Uint8Array(await (await fetch(`/view?${new URLSearchParams(f)}`)).arrayBuffer());
      return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ''));
    }, file);
    found.push([file.filename, Buffer.from(data, 'base64')]);
  }
  return found;
}

async function readHelp(page) {
  const found = await page.evaluate(async () => {
    const status = {};
    const ask = async path => { status[path] = (await fetch(`/extensions/ComfyUI-UniFashion/docs/${path}`)).status; };
    for (const type of Object.keys(LiteGraph.registered_node_types).filter(t => t.startsWith('UniFashion_'))) {
      await ask(`${type}.md`);
      await ask(`pictures/${type}.webp`);
    }
    const api = app.api ?? window.comfyAPI.api.api;
    return { status, blueprints: Object.values(await api.getGlobalSubgraphs()).map(b => b.name) };
  });
  return { ...found, ...takeNotes(page) };
}

async function readNames(page, file) {
  const found = {};
  for (const language of LANGUAGES) {
    await set(page, 'Comfy.Locale', language);
    await page.reload({ waitUntil: 'domcontentloaded', timeout: TIMEOUT });
    await waitForApp(page);
    await load(page, file);
    await shoot(page, `language_${language}`);
    found[language] = await page.evaluate(() => Object.fromEntries(Object.entries(
      LiteGraph.registered_node_types).filter(([type]) => type.startsWith('UniFashion_'))
      .map(([type, made]) => [type, made.title])));
  }
  return { ...found, ...takeNotes(page) };
}
