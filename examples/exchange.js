// Asks or answers questions through a segment. The other side may be in any language. See examples/README.md.
//
//     node exchange.js ask|answer MOUNTPOINT NAME WORD...
//
// Node has no mmap. Reads and writes at an offset access the same bytes as the mappings of other processes.
'use strict';
const fs = require('fs');

const ASKED = 0, ANSWERED = 4; // offsets of the numbers of questions and answers, u32 each
const QUESTION = 64, ANSWER = 2048; // offsets of the last question and answer, each followed by a zero byte

const [role, mountpoint, name, ...words] = process.argv.slice(2);
if (words.length === 0) {
  console.error('usage: node exchange.js ask|answer MOUNTPOINT NAME WORD...');
  process.exit(2);
}
const segment = fs.openSync(`${mountpoint}/segments/${name}`, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
fs.ftruncateSync(segment, 4096);
const notify = fs.openSync(`${mountpoint}/control/segments/${name}/notify`, fs.constants.O_WRONLY);
const wait = fs.openSync(`${mountpoint}/control/segments/${name}/wait`, 'r');

const ring = () => fs.writeSync(notify, '\n');
const sleep = () => fs.readSync(wait, Buffer.alloc(32));

function number(place) {
  const word = new Uint32Array(1);
  fs.readSync(segment, word, 0, 4, place);
  return word[0];
}
function setNumber(place, value) {
  fs.writeSync(segment, Uint32Array.of(value), 0, 4, place);
}
function text(place, end) {
  const bytes = Buffer.alloc(end - place);
  fs.readSync(segment, bytes, 0, bytes.length, place);
  return bytes.toString('utf8', 0, bytes.indexOf(0));
}
function put(place, string) {
  fs.writeSync(segment, `${string}\0`, place);
}

for (const word of words) {
  if (role === 'ask') {
    put(QUESTION, word);
    setNumber(ASKED, number(ASKED) + 1);
    ring();
    while (number(ANSWERED) !== number(ASKED)) sleep();
    console.log(text(ANSWER, 4096));
  } else {
    while (number(ANSWERED) === number(ASKED)) sleep();
    put(ANSWER, `${text(QUESTION, ANSWER)} ${word}`);
    setNumber(ANSWERED, number(ASKED));
    ring();
  }
}
