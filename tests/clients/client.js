// client.js API MAILBOX receives one message and prints it; with a FILE behind, it sends that as one message.
// Nothing but Node's own `fs`.
'use strict';
const fs = require('node:fs');
const readline = require('node:readline');

const receive = {
  readFile: (path) =>
    new Promise((done, failed) => fs.readFile(path, (error, data) => (error ? failed(error) : done(data)))),
  readFileText: (path) =>
    new Promise((done, failed) => fs.readFile(path, 'utf8', (error, data) => (error ? failed(error) : done(data)))),
  readFileSync: (path) => fs.readFileSync(path),
  promisesReadFile: (path) => fs.promises.readFile(path),
  readSync: (path) => {
    const fd = fs.openSync(path, 'r');
    const buffer = Buffer.alloc(2 << 20);
    const length = fs.readSync(fd, buffer);
    fs.closeSync(fd);
    return buffer.subarray(0, length);
  },
  fileHandle: async (path) => {
    const file = await fs.promises.open(path, 'r');
    const { bytesRead, buffer } = await file.read(Buffer.alloc(2 << 20));
    await file.close();
    return buffer.subarray(0, bytesRead);
  },
  stream: async (path) => {
    const file = await fs.promises.open(path, 'r+');
    const { bytesRead, buffer } = await file.read(Buffer.alloc(2 << 20), 0, 2 << 20, null);
    await file.close();
    return buffer.subarray(0, bytesRead);
  },
  createReadStream: async (path) => {
    const chunks = [];
    for await (const chunk of fs.createReadStream(path)) chunks.push(chunk);
    return Buffer.concat(chunks);
  },
  lines: async (path) => {
    let text = '';
    for await (const line of readline.createInterface({ input: fs.createReadStream(path) })) text += `${line}\n`;
    return text;
  },
};

const send = {
  writeFile: (path, text) =>
    new Promise((done, failed) => fs.writeFile(path, text, (error) => (error ? failed(error) : done()))),
  writeFileSync: (path, text) => fs.writeFileSync(path, text),
  promisesWriteFile: (path, text) => fs.promises.writeFile(path, text),
  appendFile: (path, text) =>
    new Promise((done, failed) => fs.appendFile(path, text, (error) => (error ? failed(error) : done()))),
  appendFileSync: (path, text) => fs.appendFileSync(path, text),
  promisesAppendFile: (path, text) => fs.promises.appendFile(path, text),
  writeSync: (path, text) => {
    const fd = fs.openSync(path, 'w');
    fs.writeSync(fd, text);
    fs.closeSync(fd);
  },
  createWriteStream: (path, text) =>
    new Promise((done, failed) => fs.createWriteStream(path).on('error', failed).on('close', done).end(text)),
};

const [api, path, file] = process.argv.slice(2);
(async () => {
  if (file) await send[api](path, fs.readFileSync(file, 'utf8'));
  else fs.writeSync(1, await receive[api](path));
})().catch((error) => {
  console.error(String(error));
  process.exitCode = 1;
});
