import assert from 'node:assert/strict'
import { describe, it } from 'mocha'
import { changedConfig } from '../../../runtime/images/config-changes.ts'
import { throwsWith } from '../../fixtures/fails-with.ts'

describe('changedConfig', () => {
  it('applies instructions in their order', () => {
    const config = changedConfig({ Env: ['A=0', 'B=1'], Cmd: ['old'], Labels: { a: '1' } }, [
      'ENV A=2 C="three four" D=\\"5',
      'env E six seven',
      'CMD ["run", "me"]',
      'ENTRYPOINT echo $A',
      "LABEL b=2 'c d'=e",
      'EXPOSE 80 53/udp',
      'VOLUME ["/a b", "/c"]',
      'VOLUME /d /e',
      'USER web\nWORKDIR /srv',
      'STOPSIGNAL SIGUSR1',
      'ONBUILD RUN true',
    ])
    assert.deepEqual(config, {
      Env: ['A=2', 'B=1', 'C=three four', 'D="5', 'E=six seven'],
      Cmd: ['run', 'me'],
      Entrypoint: ['/bin/sh', '-c', 'echo $A'],
      Labels: { a: '1', b: '2', 'c d': 'e' },
      ExposedPorts: { '80/tcp': {}, '53/udp': {} },
      Volumes: { '/a b': {}, '/c': {}, '/d': {}, '/e': {} },
      User: 'web',
      WorkingDir: '/srv',
      StopSignal: 'SIGUSR1',
      OnBuild: ['RUN true'],
    })
  })

  for (const [line, why] of [
    ['FROM x', /FROM is not valid here/],
    ['RUN rm -rf /', /RUN is not valid here/],
    ['CMD', /an instruction and its arguments/],
    ['ENV A', /expected NAME=VALUE/],
    ['ENV A=1 B', /B is not NAME=VALUE/],
    ['EXPOSE web', /web is not a port/],
  ] as const)
    it(`refuses ${line}`, () => {
      throwsWith('BAD_ARGUMENT', () => changedConfig({}, [line]), why)
    })
})
