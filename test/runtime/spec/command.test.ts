import assert from 'node:assert/strict'
import { argumentsOf, environmentOf, workdirOf } from '../../../runtime/spec/command.ts'
import { readImageConfig } from '../../../runtime/spec/image-config.ts'
import { signalNumber } from '../../../runtime/spec/signals.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

const image = (config: unknown) => readImageConfig({ config }, 'test')

describe('argumentsOf', () => {
  const both = image({ Entrypoint: ['/entry', '-x'], Cmd: ['serve'] })

  it('puts entrypoint and command together, and lets the request replace either', () => {
    assert.deepEqual(argumentsOf(both, {}, 'i'), ['/entry', '-x', 'serve'])
    assert.deepEqual(argumentsOf(both, { command: ['other', 'one'] }, 'i'), ['/entry', '-x', 'other', 'one'])
    assert.deepEqual(argumentsOf(both, { command: [] }, 'i'), ['/entry', '-x', 'serve'])
    assert.deepEqual(argumentsOf(both, { entrypoint: ['/mine'] }, 'i'), ['/mine'])
    assert.deepEqual(argumentsOf(both, { entrypoint: [], command: ['sh'] }, 'i'), ['sh'])
  })

  it('refuses an empty command and NUL bytes', () => {
    for (const request of [{ entrypoint: [] }, { entrypoint: [''] }])
      throwsWith('BAD_ARGUMENT', () => argumentsOf(both, request, 'i'))
    throwsWith('BAD_ARGUMENT', () => argumentsOf(image({}), {}, 'empty'), /no command for image empty/)
    throwsWith('BAD_ARGUMENT', () => argumentsOf(both, { command: ['a\0b'] }, 'i'), /NUL/)
  })
})

describe('environmentOf', () => {
  const facts = { hostname: 'h', home: '/root', tty: false }

  it('lets later settings win and a bare name take one away', () => {
    const env = environmentOf(['PATH=/x', 'A=1', 'B=2=3'], ['A=9', 'B', 'EMPTY='], facts)
    assert.deepEqual(env, ['PATH=/x', 'HOSTNAME=h', 'HOME=/root', 'A=9', 'EMPTY='])
    assert.ok(environmentOf([], [], { ...facts, tty: true }).includes('TERM=xterm'))
  })

  it('refuses what is no variable', () => {
    for (const bad of ['=x', '', 'A=\0']) throwsWith('BAD_ARGUMENT', () => environmentOf([], [bad], facts))
  })
})

describe('workdirOf', () => {
  it('is absolute and normal', () => {
    assert.equal(workdirOf(image({}), {}), '/')
    assert.equal(workdirOf(image({ WorkingDir: 'srv/app/' }), {}), '/srv/app/')
    assert.equal(workdirOf(image({ WorkingDir: '/srv' }), { workdir: '/a/../b/' }), '/b')
    throwsWith('BAD_ARGUMENT', () => workdirOf(image({}), { workdir: 'rel' }))
  })
})

describe('readImageConfig', () => {
  it('makes nulls and absences empty', () => {
    const empty = readImageConfig({}, 'i')
    assert.deepEqual(readImageConfig({ config: null }, 'i'), empty)
    assert.deepEqual(
      image({ Env: null, Cmd: null, Labels: null, User: null, Volumes: null, ExposedPorts: null }),
      empty,
    )
  })

  it('names the field of a wrong type', () => {
    const cases: [unknown, RegExp][] = [
      [{ User: 5 }, /User/],
      [{ Env: 'A=1' }, /Env/],
      [{ Cmd: [null] }, /Cmd/],
      [{ Labels: { a: 1 } }, /Labels/],
      [{ Volumes: ['/a'] }, /Volumes/],
      [{ WorkingDir: '/a\0' }, /WorkingDir/],
    ]
    for (const [config, text] of cases) throwsWith('MANIFEST_INVALID', () => image(config), text)
    for (const whole of [null, [], 'x', { config: [] }])
      throwsWith('MANIFEST_INVALID', () => readImageConfig(whole, 'i'))
  })
})

describe('signalNumber', () => {
  it('reads names, numbers and real-time signals', () => {
    const cases: [string, number][] = [
      ['TERM', 15],
      ['sigkill', 9],
      ['1', 1],
      ['SIGRTMIN+3', 37],
      ['RTMIN', 34],
      ['RTMAX-1', 63],
      ['64', 64],
    ]
    for (const [text, number] of cases) assert.equal(signalNumber(text), number, text)
  })

  it('refuses the rest', () => {
    for (const text of ['', '0', '65', 'NONE', 'RTMAX+1', 'RTMIN-1', '-9', '9x'])
      throwsWith('BAD_ARGUMENT', () => signalNumber(text))
  })
})
